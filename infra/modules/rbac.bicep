// What the app's identity may do, and nothing else. Role IDs: learn.microsoft.com/azure/role-based-access-control/built-in-roles.

@description('Object ID of the app\'s identity.')
param principalId string

@description('Storage account of the app.')
param storageAccountName string

@description('Services of that account that the app and its host use: blob, queue, table.')
param storageServices array

@description('Key Vault of the app.')
param keyVaultName string

@description('Application Insights of the app.')
param applicationInsightsName string

// Owner and not Contributor: the Functions host asks for it on AzureWebJobsStorage (host locks and keys).
var storageBlobDataOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
var storageQueueDataContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
// Only where the host writes its diagnostic events; the app itself has no tables.
var storageTableDataContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
// Officer and not User: the app writes and deletes the secret of each destination.
var keyVaultSecretsOfficer = 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
var monitoringMetricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

var roleOfStorageService = {
  blob: storageBlobDataOwner
  queue: storageQueueDataContributor
  table: storageTableDataContributor
}

resource storageAccount 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageAccountName
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: keyVaultName
}

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

resource storageRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for service in storageServices: {
  scope: storageAccount
  name: guid(storageAccount.id, principalId, roleOfStorageService[service])
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleOfStorageService[service])
  }
}]

resource vaultRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, principalId, keyVaultSecretsOfficer)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsOfficer)
  }
}

// Application Insights takes telemetry from this identity only: local authentication is off.
resource telemetryRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: applicationInsights
  name: guid(applicationInsights.id, principalId, monitoringMetricsPublisher)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringMetricsPublisher)
  }
}
