// Where logs go. Application Insights takes telemetry from the app's identity only.

@description('Suffix of the resource names.')
param name string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Days for which logs are kept: those of the app and those of the vault.')
@minValue(30)
@maxValue(730)
param logRetentionDays int

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

// Application Insights keeps its tables for 90 days, whatever the workspace says: each has to be told.
@batchSize(1)
resource tables 'Microsoft.OperationalInsights/workspaces/tables@2023-09-01' = [for table in [
  'AppTraces'
  'AppRequests'
  'AppExceptions'
  'AppDependencies'
  'AppMetrics'
  'AppPerformanceCounters'
]: {
  parent: workspace
  name: table
  properties: {
    plan: 'Analytics'
    retentionInDays: logRetentionDays
    totalRetentionInDays: logRetentionDays
  }
}]

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

@description('Resource ID of the Log Analytics workspace.')
output workspaceId string = workspace.id

@description('The workspace\'s own ID, which queries name it by.')
output workspaceCustomerId string = workspace.properties.customerId

@description('Name of the Application Insights resource.')
output applicationInsightsName string = applicationInsights.name

@description('Where telemetry is sent; not a secret, since local authentication is off.')
output applicationInsightsConnectionString string = applicationInsights.properties.ConnectionString
