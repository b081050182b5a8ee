// Logs and alerts. Application Insights takes telemetry from the app's identity only.

@description('Suffix of the resource names.')
param name string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Days for which logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int

@description('Whether alert rules are created.')
param alertsEnabled bool

@description('Mail address the alerts go to; needed if alerts are enabled.')
param alertEmail string

@description('The timer of function_app.py that keeps the schedule, once a minute.')
param timerFunctionName string

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: 'log-${name}'
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: logRetentionDays
    features: {
      enableLogAccessUsingOnlyResourcePermissions: true
    }
  }
}

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-${name}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    DisableLocalAuth: true
    IngestionMode: 'LogAnalytics'
    WorkspaceResourceId: workspace.id
  }
}

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = if (alertsEnabled) {
  name: 'ag-${name}'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'segments'
    emailReceivers: [
      {
        name: 'administrator'
        emailAddress: alertEmail
        useCommonAlertSchema: true
      }
    ]
  }
}

// Log rules and not metric rules: the metric of queue length counts a whole account, not one queue, once an hour.
// Every function run is a row of AppRequests, those that empty the poison queues too. Each query ends in one number,
// also if there are no rows, so that silence can be alerted on.
var rules = [
  {
    name: 'message-poisoned'
    title: 'A message was given up'
    description: 'A step of an export failed five times, and its message went to a poison queue. See docs/deploying.md, "Is it healthy?".'
    severity: 1
    query: 'AppRequests | where Name endswith "_poison" | summarize Value = sum(ItemCount)'
    operator: 'GreaterThan'
    threshold: 0
  }
  {
    name: 'timer-silent'
    title: 'The schedule is not kept'
    description: 'The timer that starts scheduled exports has not run for half an hour. See docs/deploying.md, "Is it healthy?".'
    severity: 1
    query: 'AppRequests | where Name == "${timerFunctionName}" and Success == true | summarize Value = sum(ItemCount)'
    operator: 'LessThan'
    threshold: 1
  }
  {
    name: 'runs-failing'
    title: 'Runs of the app keep failing'
    description: 'More than five function runs failed or answered 5xx within half an hour. Single failures are repeated by themselves.'
    severity: 2
    query: 'AppRequests | where Success == false and coalesce(toint(ResultCode), 0) !between (400 .. 499) | summarize Value = sum(ItemCount)'
    operator: 'GreaterThan'
    threshold: 5
  }
]
var activeRules = alertsEnabled ? rules : []

resource alertRules 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for rule in activeRules: {
  name: 'alert-${rule.name}-${name}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: rule.title
    description: rule.description
    severity: rule.severity
    enabled: true
    scopes: [
      workspace.id
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT30M'
    autoMitigate: true
    // The tables of a new workspace fill with the app's first telemetry, after this deployment.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: rule.query
          metricMeasureColumn: 'Value'
          timeAggregation: 'Total'
          operator: rule.operator
          threshold: rule.threshold
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        actionGroup.id
      ]
    }
  }
}]

@description('Resource ID of the Log Analytics workspace.')
output workspaceId string = workspace.id

@description('Name of the Application Insights resource.')
output applicationInsightsName string = applicationInsights.name

@description('Where telemetry is sent; not a secret, since local authentication is off.')
output applicationInsightsConnectionString string = applicationInsights.properties.ConnectionString
