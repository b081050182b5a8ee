// Segments from blob storage to Mailchimp audiences: everything the function app needs in Azure.
//
// Scope: the subscription, so that one command makes the resource group too. Everything but a role on the container of
// segments, if that lives elsewhere, is in that one group: removing the product is removing the group.
//
// Written in the subset of Bicep that tests/unit/test_infra_*.py and checkov can read without Microsoft's compiler:
// native resources, no registry modules, no typed arrays, no lambdas, no spread, no union types.
targetScope = 'subscription'

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
param location string

@description('Name of the resource group that is made for this deployment. Empty: rg- and environmentName.')
@maxLength(90)
param resourceGroupName string = ''

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

@description('Days after which an export is deleted from the history, with its working files, which hold personal data.')
@minValue(1)
@maxValue(3650)
param exportRetentionDays int = 90

@description('Days for which members whom Mailchimp refused for good are left out of exports. Their addresses are kept for as long.')
@minValue(1)
@maxValue(3650)
param refusalMemoryDays int = 90

@description('Hours that an export waits for Mailchimp before it ends as failed. It can be resumed then.')
@minValue(1)
@maxValue(720)
param maxWaitHours int = 24

@description('Whether the app sends metrics and its calls to Mailchimp to Azure Monitor with OpenTelemetry. Off: figures are lines of the log.')
param openTelemetry bool = false

@description('Days for which records of the audit log can be neither changed nor deleted, by nobody. 0: the app never does it, but whoever may write to the storage account can.')
@minValue(0)
@maxValue(146000)
param auditImmutabilityDays int = 0

@description('Days for which Key Vault keeps deleted secrets recoverable. Cannot be changed later, and the vault\'s name stays taken for as long after removal.')
@minValue(7)
@maxValue(90)
param secretRetentionDays int = 7

@description('Days for which logs are kept. Those of the app cost nothing for 90 days, those of the vault for 31.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 90

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

@description('Let the Functions host write its diagnostic events (AZFD codes, shown in the portal) to table storage. False: no role on tables, no endpoint, and the host is told not to try.')
param hostDiagnosticsEnabled bool = true

@description('Put storage and Key Vault behind private endpoints in a virtual network of their own. The app itself stays reachable over HTTPS.')
param privateNetworkEnabled bool = false

@description('Address range of the subnet that the app calls out from, at least a /27. Choose one that does not overlap with networks it may be joined to.')
param appSubnetPrefix string = '10.40.0.0/24'

@description('Address range of the subnet of the private endpoints, at least a /28.')
param endpointSubnetPrefix string = '10.40.1.0/24'

@description('Mail address that is told about trouble. Empty: no alert rules are created.')
param alertEmail string = ''

@description('Address users and Mailchimp reach the app at, for example https://segments.contoso.example, without a slash at its end. Empty: the host name Azure gives it.')
param publicUrl string = ''

@description('Origins of the portals that work with this app, separated by commas, for example https://portal.contoso.example. Empty: none.')
param portalOrigins string = ''

// The one object that says what this deployment consists of. Settings, roles and private endpoints are all derived
// from it, so that none of them can be forgotten when another is switched on.
var features = {
  storageServices: hostDiagnosticsEnabled ? [ 'blob', 'queue', 'table' ] : [ 'blob', 'queue' ]
  privateNetwork: privateNetworkEnabled
  mailchimpSignIn: !empty(mailchimpClientId)
  separateSegmentsAccount: !empty(segmentsStorageAccountName)
  alerts: !empty(alertEmail)
}

// Names shared with the code: shared/storage/names.py.
var stateContainerName = 'state'
var auditContainerName = 'audit'
var runsPrefix = 'runs/'
var queueNames = [
  'prepare'
  'lanes'
  'finish'
  'removals'
]
var deploymentContainerName = 'app-package'

var groupName = empty(resourceGroupName) ? 'rg-${environmentName}' : resourceGroupName
var resourceToken = toLower(uniqueString(subscription().id, environmentName, location))
var tags = {
  'azd-env-name': environmentName
}
var segmentsResourceGroupName = empty(segmentsStorageResourceGroupName) ? groupName : segmentsStorageResourceGroupName
var segmentsSubscriptionId = empty(segmentsStorageSubscriptionId) ? subscription().subscriptionId : segmentsStorageSubscriptionId
var ownSegmentsContainer = features.separateSegmentsAccount ? [] : [ segmentsContainerName ]

resource group 'Microsoft.Resources/resourceGroups@2022-09-01' = {
  name: groupName
  location: location
  tags: tags
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  scope: group
  params: {
    name: 'id-${resourceToken}'
    location: location
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    name: resourceToken
    location: location
    tags: tags
    logRetentionDays: logRetentionDays
  }
}

module workbook 'modules/workbook.bicep' = {
  name: 'workbook'
  scope: group
  params: {
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
  }
}

module alerts 'modules/alerts.bicep' = if (features.alerts) {
  name: 'alerts'
  scope: group
  params: {
    name: resourceToken
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    alertEmail: alertEmail
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    name: 'st${resourceToken}'
    location: location
    tags: tags
    sku: storageSku
    containerNames: concat([ stateContainerName, auditContainerName, deploymentContainerName ], ownSegmentsContainer)
    publicNetworkAccess: features.privateNetwork ? 'Disabled' : 'Enabled'
    queueNames: queueNames
    expiringPrefix: '${stateContainerName}/${runsPrefix}'
    // The app deletes the files of an export that ended longer ago than this. The rule is the net below: a week later,
    // so that it never takes files from an export that waits for Mailchimp to come back.
    expireAfterDays: exportRetentionDays + 7
    immutableContainerName: auditContainerName
    immutabilityDays: auditImmutabilityDays
  }
}

module keyVault 'modules/keyvault.bicep' = {
  name: 'keyvault'
  scope: group
  params: {
    name: 'kv-${resourceToken}'
    location: location
    tags: tags
    publicNetworkAccess: features.privateNetwork ? 'Disabled' : 'Enabled'
    softDeleteRetentionDays: secretRetentionDays
    mailchimpClientSecret: mailchimpClientSecret
    logAnalyticsWorkspaceId: monitoring.outputs.workspaceId
  }
}

module rbac 'modules/rbac.bicep' = {
  name: 'rbac'
  scope: group
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
  scope: group
  params: {
    name: resourceToken
    location: location
    tags: tags
    appSubnetPrefix: appSubnetPrefix
    endpointSubnetPrefix: endpointSubnetPrefix
    storageAccountId: storage.outputs.id
    storageServices: features.storageServices
    keyVaultId: keyVault.outputs.id
    segmentsStorageAccountId: features.separateSegmentsAccount ? segmentsAccess!.outputs.storageAccountId : ''
  }
}

module functionApp 'modules/functionapp.bicep' = {
  name: 'functionapp'
  scope: group
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
    storageServices: features.storageServices
    deploymentContainerUrl: '${storage.outputs.blobEndpoint}${deploymentContainerName}'
    applicationInsightsConnectionString: monitoring.outputs.applicationInsightsConnectionString
    openTelemetry: openTelemetry
    subnetId: features.privateNetwork ? network!.outputs.appSubnetId : ''
    keyVaultUrl: keyVault.outputs.url
    publicUrl: publicUrl
    portalOrigins: portalOrigins
    segmentsStorageAccountName: features.separateSegmentsAccount ? segmentsStorageAccountName : ''
    segmentsContainerName: segmentsContainerName
    segmentsPrefix: segmentsPrefix
    mailchimpClientId: features.mailchimpSignIn ? mailchimpClientId : ''
    mailchimpClientSecretName: keyVault.outputs.mailchimpClientSecretName
    mailchimpMaxConnections: mailchimpMaxConnections
    maxProfilesPerExport: maxProfilesPerExport
    exportRetentionDays: exportRetentionDays
    refusalMemoryDays: refusalMemoryDays
    maxWaitHours: maxWaitHours
  }
  dependsOn: [
    rbac
  ]
}

module auth 'modules/auth.bicep' = {
  name: 'auth'
  scope: group
  params: {
    functionAppName: functionApp.outputs.name
    entraClientId: entraClientId
  }
}

@description('Resource group of everything.')
output RESOURCE_GROUP_NAME string = group.name

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

@description('ID of the Log Analytics workspace that takes the app\'s logs, for az monitor log-analytics query.')
output LOG_ANALYTICS_WORKSPACE_ID string = monitoring.outputs.workspaceCustomerId

@description('Storage account of the app.')
output STORAGE_ACCOUNT_NAME string = storage.outputs.name

@description('Key Vault that holds the Mailchimp secrets.')
output KEY_VAULT_NAME string = keyVault.outputs.name

@description('Name of the vault secret that holds the client secret of the Mailchimp OAuth application.')
output KEY_VAULT_SECRET_NAME string = keyVault.outputs.mailchimpClientSecretName
