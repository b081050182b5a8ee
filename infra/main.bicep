// Segments from blob storage to Mailchimp audiences: everything the function app needs in Azure.
//
// Scope: one resource group, not the subscription. The person who deploys needs rights on that group alone (and on the
// container of segments, if it lives in another account), and removing the product is removing the group.
//
// Written in the subset of Bicep that tests/unit/test_infra_*.py can read without Microsoft's compiler:
// native resources, no registry modules, no spread, no union types, no condition inside a loop.
targetScope = 'resourceGroup'

@description('Name of this deployment, for example "prod". Part of every resource name (as a hash) and of the tag azd-env-name.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Azure region of all resources. Must offer the Flex Consumption plan: az functionapp list-flexconsumption-locations.')
@minLength(1)
@metadata({
  azd: {
    type: 'location'
  }
})
param location string = resourceGroup().location

@description('Application (client) ID of the Entra ID app registration that signs callers in. The app answers nobody without it.')
@minLength(36)
@maxLength(36)
param entraClientId string

@description('Client ID of the OAuth application registered at Mailchimp. Empty: destinations sign in with API keys only.')
param mailchimpClientId string = ''

@description('Client secret of the OAuth application registered at Mailchimp; written to Key Vault. Empty: the secret in the vault stays as it is.')
@secure()
param mailchimpClientSecret string = ''

@description('Connections one Mailchimp account may have open at once. Mailchimp allows 10 per user over all applications.')
@minValue(1)
@maxValue(10)
param mailchimpMaxConnections int = 8

@description('Largest number of members one export may send; a larger one is refused before the first call.')
@minValue(1)
param maxProfilesPerExport int = 1000000

@description('Container that holds the segments.')
@minLength(3)
@maxLength(63)
param segmentsContainerName string = 'segments'

@description('Folder inside the container below which segments are looked for. Empty: the whole container.')
param segmentsPrefix string = ''

@description('Existing storage account that holds the segments, for example the data lake Customer Insights writes to. Empty: a container in this deployment\'s own account.')
@maxLength(24)
param segmentsStorageAccountName string = ''

@description('Resource group of that existing account. Empty: the resource group deployed to.')
param segmentsStorageResourceGroupName string = ''

@description('Subscription of that existing account. Empty: the subscription deployed to.')
param segmentsStorageSubscriptionId string = ''

@description('Days after which the working files of an export (they hold personal data) are deleted.')
@minValue(1)
@maxValue(3650)
param exportRetentionDays int = 30

@description('Days for which Key Vault keeps deleted secrets recoverable. Cannot be changed later, and the vault\'s name stays taken for as long after removal.')
@minValue(7)
@maxValue(90)
param secretRetentionDays int = 7

@description('Days for which logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Redundancy of the storage account. Standard_ZRS and Standard_GZRS are not offered in every region.')
@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GRS'
  'Standard_GZRS'
])
param storageSku string = 'Standard_LRS'

@description('Memory of one instance in MB. 2048 prepares a million profiles; 512 is too small for that.')
@allowed([
  2048
  4096
])
param instanceMemoryMB int = 2048

@description('Most instances the platform may start: a brake on cost. Mailchimp\'s limit is kept by mailchimpMaxConnections, whatever this says. Some regions refuse less than 40.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Put storage and Key Vault behind private endpoints in a virtual network of their own. The app itself stays reachable over HTTPS.')
param privateNetworkEnabled bool = false

@description('Address range of that virtual network, at least a /23. Choose one that does not overlap with networks it may be joined to.')
param virtualNetworkAddressPrefix string = '10.40.0.0/23'

@description('Mail address that is told about trouble. Empty: no alert rules are created.')
param alertEmail string = ''

@description('Address users and Mailchimp reach the app at, for example https://segments.contoso.example, without a slash at its end. Empty: the host name Azure gives it.')
param publicUrl string = ''

// The one object that says what this deployment consists of. Settings, roles and private endpoints are all derived
// from it, so that none of them can be forgotten when another is switched on.
var features = {
  storageServices: [
    'blob'
    'queue'
  ]
  privateNetwork: privateNetworkEnabled
  mailchimpSignIn: !empty(mailchimpClientId)
  separateSegmentsAccount: !empty(segmentsStorageAccountName)
  alerts: !empty(alertEmail)
}

// Names shared with the code: shared/storage/names.py, and the timer of function_app.py that keeps the schedule.
var stateContainerName = 'state'
var runsPrefix = 'runs/'
var queueNames = [
  'prepare'
  'lanes'
  'finish'
  'removals'
]
var timerFunctionName = 'schedule'
var deploymentContainerName = 'app-package'

var resourceToken = toLower(uniqueString(resourceGroup().id, environmentName, location))
var tags = {
  'azd-env-name': environmentName
}
var segmentsResourceGroupName = empty(segmentsStorageResourceGroupName) ? resourceGroup().name : segmentsStorageResourceGroupName
var segmentsSubscriptionId = empty(segmentsStorageSubscriptionId) ? subscription().subscriptionId : segmentsStorageSubscriptionId
var ownSegmentsContainer = features.separateSegmentsAccount ? [] : [ segmentsContainerName ]

module identity 'modules/identity.bicep' = {
  name: 'identity'
  params: {
    name: 'id-${resourceToken}'
    location: location
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    name: resourceToken
    location: location
    tags: tags
    logRetentionDays: logRetentionDays
    alertsEnabled: features.alerts
    alertEmail: alertEmail
    timerFunctionName: timerFunctionName
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    name: 'st${resourceToken}'
    location: location
    tags: tags
    sku: storageSku
    publicAccessEnabled: !features.privateNetwork
    containerNames: concat([ stateContainerName, deploymentContainerName ], ownSegmentsContainer)
    queueNames: queueNames
    expiringPrefix: '${stateContainerName}/${runsPrefix}'
    // The app deletes the files of an export that ended longer ago than this. The rule is the net below: a week later,
    // so that it never takes files from an export that waits for Mailchimp to come back.
    expireAfterDays: exportRetentionDays + 7
  }
}

module keyVault 'modules/keyvault.bicep' = {
  name: 'keyvault'
  params: {
    name: 'kv-${resourceToken}'
    location: location
    tags: tags
    publicAccessEnabled: !features.privateNetwork
    softDeleteRetentionDays: secretRetentionDays
    mailchimpClientSecret: mailchimpClientSecret
    logAnalyticsWorkspaceId: monitoring.outputs.workspaceId
  }
}

module rbac 'modules/rbac.bicep' = {
  name: 'rbac'
  params: {
    principalId: identity.outputs.principalId
    storageAccountName: storage.outputs.name
    storageServices: features.storageServices
    keyVaultName: keyVault.outputs.name
    applicationInsightsName: monitoring.outputs.applicationInsightsName
  }
}

module segmentsAccess 'modules/segmentsaccess.bicep' = if (features.separateSegmentsAccount) {
  name: 'segments-access-${resourceToken}'
  scope: resourceGroup(segmentsSubscriptionId, segmentsResourceGroupName)
  params: {
    principalId: identity.outputs.principalId
    storageAccountName: segmentsStorageAccountName
    containerName: segmentsContainerName
  }
}

module network 'modules/network.bicep' = if (features.privateNetwork) {
  name: 'network'
  params: {
    name: resourceToken
    location: location
    tags: tags
    addressPrefix: virtualNetworkAddressPrefix
    storageAccountId: storage.outputs.id
    storageServices: features.storageServices
    keyVaultId: keyVault.outputs.id
    segmentsStorageAccountId: features.separateSegmentsAccount ? segmentsAccess!.outputs.storageAccountId : ''
  }
}

module functionApp 'modules/functionapp.bicep' = {
  name: 'functionapp'
  params: {
    name: 'func-${resourceToken}'
    planName: 'plan-${resourceToken}'
    location: location
    tags: tags
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    storageAccountName: storage.outputs.name
    deploymentContainerUrl: '${storage.outputs.blobEndpoint}${deploymentContainerName}'
    applicationInsightsConnectionString: monitoring.outputs.applicationInsightsConnectionString
    subnetId: features.privateNetwork ? network!.outputs.appSubnetId : ''
    keyVaultUrl: keyVault.outputs.url
    publicUrl: publicUrl
    segmentsStorageAccountName: features.separateSegmentsAccount ? segmentsStorageAccountName : ''
    segmentsContainerName: segmentsContainerName
    segmentsPrefix: segmentsPrefix
    mailchimpClientId: features.mailchimpSignIn ? mailchimpClientId : ''
    mailchimpClientSecretName: keyVault.outputs.mailchimpClientSecretName
    mailchimpMaxConnections: mailchimpMaxConnections
    maxProfilesPerExport: maxProfilesPerExport
    exportRetentionDays: exportRetentionDays
  }
  dependsOn: [
    rbac
  ]
}

module auth 'modules/auth.bicep' = {
  name: 'auth'
  params: {
    functionAppName: functionApp.outputs.name
    entraClientId: entraClientId
  }
}

@description('Name of the function app.')
output FUNCTION_APP_NAME string = functionApp.outputs.name

@description('Address of the app; the API is below /api, its documentation at /api/docs.')
output APP_URL string = functionApp.outputs.url

@description('Redirect URI to register at Mailchimp, character by character.')
output MAILCHIMP_REDIRECT_URI string = '${functionApp.outputs.url}/api/oauth/callback'

@description('Redirect URI to add to the Entra ID app registration, for people who sign in with a browser.')
output ENTRA_REDIRECT_URI string = '${functionApp.outputs.url}/.auth/login/aad/callback'

@description('Object ID of the app\'s identity: the subject of the federated credential of the Entra ID app registration.')
output IDENTITY_PRINCIPAL_ID string = identity.outputs.principalId

@description('Tenant that signs callers in.')
output AZURE_TENANT_ID string = tenant().tenantId

@description('Storage account of the app.')
output STORAGE_ACCOUNT_NAME string = storage.outputs.name

@description('Key Vault that holds the Mailchimp secrets.')
output KEY_VAULT_NAME string = keyVault.outputs.name

@description('Name of the vault secret that holds the client secret of the Mailchimp OAuth application.')
output KEY_VAULT_SECRET_NAME string = keyVault.outputs.mailchimpClientSecretName
