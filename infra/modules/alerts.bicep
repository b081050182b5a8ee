// Who is told, and of what. The queries are in infra/alerts/, one file a rule; each returns a row only if there is
// trouble, so every rule is the same: any row alerts. What to do then: docs/operations.md.

@description('Suffix of the resource names.')
param name string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Resource ID of the Log Analytics workspace that takes the app\'s logs.')
param workspaceId string

@description('Mail address the alerts go to.')
param alertEmail string

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = {
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

// An alert of its own for each value of the column; the mail names the value.
var byDestination = [
  {
    name: 'Destination'
    operator: 'Include'
    values: [
      '*'
    ]
  }
]
var byExport = [
  {
    name: 'Export'
    operator: 'Include'
    values: [
      '*'
    ]
  }
]
var byStep = [
  {
    name: 'Step'
    operator: 'Include'
    values: [
      '*'
    ]
  }
]

// Severity 1: nothing goes on without you. Severity 2: one export is concerned, or the next one.
var rules = [
  {
    name: 'export-failed'
    title: 'An export failed'
    description: 'An export ended as Failed. The mail names its destination; the API and the workbook name the reason. See docs/operations.md, "Alerts".'
    severity: 2
    query: loadTextContent('../alerts/export-failed.kql')
    dimensions: byDestination
  }
  {
    name: 'sign-in-refused'
    title: 'Mailchimp refused a sign-in'
    description: 'Mailchimp no longer takes the key or token of a destination: its exports fail until somebody signs in again. See docs/operations.md, "Alerts".'
    severity: 1
    query: loadTextContent('../alerts/sign-in-refused.kql')
    dimensions: byDestination
  }
  {
    name: 'timer-silent'
    title: 'A timer of the app is silent'
    description: 'No tick of the schedule, or of the sweep that repairs, for half an hour: scheduled exports do not start. See docs/operations.md, "Alerts".'
    severity: 1
    query: loadTextContent('../alerts/timer-silent.kql')
    dimensions: []
  }
  {
    name: 'message-poisoned'
    title: 'A message was given up'
    description: 'A step of an export failed five times in a row; the export was ended with the reason. See docs/operations.md, "Alerts".'
    severity: 1
    query: loadTextContent('../alerts/message-poisoned.kql')
    dimensions: byStep
  }
  {
    name: 'waiting-too-long'
    title: 'An export has been waiting for more than an hour'
    description: 'Mailchimp has not been available to it, or nobody has begun with it. It goes on by itself when it can. See docs/operations.md, "Alerts".'
    severity: 2
    query: loadTextContent('../alerts/waiting-too-long.kql')
    dimensions: byExport
  }
  {
    name: 'runs-failing'
    title: 'Runs of the app keep failing'
    description: 'More than five function runs failed or answered 5xx within half an hour. Single failures are repeated by themselves. See docs/operations.md, "Alerts".'
    severity: 2
    query: loadTextContent('../alerts/runs-failing.kql')
    dimensions: []
  }
]

resource alertRules 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for rule in rules: {
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
      workspaceId
    ]
    // Twice as far back as often: a line that arrives late is seen by the next look. While an alert is open it is not
    // sent again.
    evaluationFrequency: 'PT15M'
    windowSize: 'PT30M'
    autoMitigate: true
    // The tables of a new workspace fill with the app's first telemetry, after this deployment.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: rule.query
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: rule.dimensions
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
