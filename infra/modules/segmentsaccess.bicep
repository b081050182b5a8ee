// Read access to segments in a storage account that exists already, deployed into that account's resource group.
// The role is given on the one container: nothing else in the data lake can be read.

@description('Object ID of the app\'s identity.')
param principalId string

@description('Existing storage account that holds the segments.')
@maxLength(24)
param storageAccountName string

@description('Existing container that holds the segments.')
@minLength(3)
@maxLength(63)
param containerName string

var storageBlobDataReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageAccountName
}

resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' existing = {
  parent: account
  name: 'default'
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' existing = {
  parent: blobService
  name: containerName
}

resource readerRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: container
  name: guid(container.id, principalId, storageBlobDataReader)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataReader)
  }
}

@description('Resource ID of the account.')
output storageAccountId string = account.id
