// The function app on its Flex Consumption plan, and its settings: the names of shared/settings.py, held to it by
// tests/unit/test_infra_contract.py.

@description('Name of the function app.')
param name string

@description('Name of its plan.')
param planName string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Resource ID of the app\'s identity.')
param identityId string

@description('Client ID of the app\'s identity.')
param identityClientId string

@description('Memory of one instance in MB.')
@allowed([
  2048
  4096
])
param instanceMemoryMB int

@description('Most instances the platform may start.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int

@description('Storage account of the app.')
param storageAccountName string

@description('Services of that account that the app and its host use: blob, queue, table.')
param storageServices array

@description('Address of the container that holds the deployed package.')
param deploymentContainerUrl string

@description('Where telemetry is sent.')
param applicationInsightsConnectionString string

@description('Whether the app sends metrics and its calls to Mailchimp to Azure Monitor with OpenTelemetry. Its log lines go there in any case.')
param openTelemetry bool

@description('Subnet the app calls out from. Empty: no virtual network.')
param subnetId string

@description('Address of the Key Vault.')
param keyVaultUrl string

@description('Address users and Mailchimp reach the app at, without a slash at its end. Empty: the host name Azure gives it.')
param publicUrl string

@description('Origins of the portals that work with this app, separated by commas. Empty: none.')
param portalOrigins string

@description('Other storage account that holds the segments. Empty: the app\'s own.')
param segmentsStorageAccountName string

@description('Container that holds the segments.')
param segmentsContainerName string

@description('Folder inside the container below which segments are looked for.')
param segmentsPrefix string

@description('Client ID of the Mailchimp OAuth application. Empty: sign-in with API keys only.')
param mailchimpClientId string

@description('Name of the vault secret that holds the client secret of that application.')
param mailchimpClientSecretName string

@description('Connections one Mailchimp account may have open at once.')
@minValue(1)
@maxValue(10)
param mailchimpMaxConnections int

@description('Largest number of members one export may send.')
@minValue(1)
param maxProfilesPerExport int

@description('Days after which an export is deleted from the history, with its working files.')
@minValue(1)
param exportRetentionDays int

@description('Days for which members whom Mailchimp refused for good are left out of exports.')
@minValue(1)
param refusalMemoryDays int

@description('Hours that an export waits for Mailchimp before it ends as failed.')
@minValue(1)
param maxWaitHours int

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  tags: union(tags, {
    'azd-service-name': 'api'
  })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identityId
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    // Flex Consumption refuses most of what other plans take here (ftpsState, alwaysOn, linuxFxVersion, ...), and a
    // refused property fails the deployment. There is no FTP to switch off.
    siteConfig: {
      minTlsVersion: '1.2'
      // Pages of the portals may call the API from a browser, with a token or with the visitor's session here. The app
      // itself answers no preflight in Azure: shared/api/cors.py.
      cors: {
        allowedOrigins: empty(portalOrigins) ? [] : split(replace(portalOrigins, ' ', ''), ',')
        supportCredentials: !empty(portalOrigins)
      }
    }
    functionAppConfig: {
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: deploymentContainerUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
    }
  }
}

// Deployment by user name and password is off: azd and az sign in with Entra ID. Two resources and no loop: the compiler
// checks such a policy only if its name is written out (BCP225).
resource noPasswordsForFtp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource noPasswordsForDeployment 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'scm'
  properties: {
    allow: false
  }
}

var appUrl = empty(publicUrl) ? 'https://${app.properties.defaultHostName}' : publicUrl

// Read by the platform, the Functions host and the worker.
var platformSettings = {
  AzureWebJobsStorage__accountName: storageAccountName
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: applicationInsightsConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
  // Threads of one worker. The default on one core is 5, fewer than the messages the host hands out at a time: the
  // rest would wait inside the worker while their clock runs.
  PYTHON_THREADPOOL_THREAD_COUNT: '24'
  // Without it glibc keeps freed memory apart for every thread: 590 instead of 410 MB at a million members (measured).
  // A process that ran before it was given these two takes them up in shared/worker_process.py.
  MALLOC_ARENA_MAX: '2'
  // modules/auth.bicep: the identity stands in for a client secret when people sign in with a browser.
  OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID: identityClientId
  WEBSITE_AUTH_AAD_ALLOWED_TENANTS: tenant().tenantId
}

var productSettings = {
  KEY_VAULT_URL: keyVaultUrl
  PUBLIC_URL: appUrl
  PORTAL_ORIGINS: portalOrigins
  OPEN_TELEMETRY: string(openTelemetry)
  SEGMENTS_CONTAINER: segmentsContainerName
  SEGMENTS_PREFIX: segmentsPrefix
  MAILCHIMP_MAX_CONNECTIONS: string(mailchimpMaxConnections)
  MAX_PROFILES_PER_EXPORT: string(maxProfilesPerExport)
  EXPORT_RETENTION_DAYS: string(exportRetentionDays)
  REFUSAL_MEMORY_DAYS: string(refusalMemoryDays)
  MAX_WAIT_HOURS: string(maxWaitHours)
}

// Without a role on tables the host must not try to write its diagnostic events there.
var diagnosticsSettings = contains(storageServices, 'table') ? {} : {
  AzureWebJobsFeatureFlags: 'DisableDiagnosticEventLogging'
}

var segmentsSettings = empty(segmentsStorageAccountName) ? {} : {
  SEGMENTS_STORAGE__accountName: segmentsStorageAccountName
}

// A Key Vault reference and not the value: a setting can be read by everyone who may see the app's configuration, and
// the next deployment without the parameter would empty it. No version: a new one is taken up within a day.
var mailchimpSettings = empty(mailchimpClientId) ? {} : {
  MAILCHIMP_CLIENT_ID: mailchimpClientId
  MAILCHIMP_CLIENT_SECRET: '@Microsoft.KeyVault(SecretUri=${keyVaultUrl}secrets/${mailchimpClientSecretName}/)'
}

// A resource of its own, because PUBLIC_URL needs the host name that Azure gives the app.
resource appSettings 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: app
  name: 'appsettings'
  properties: union(platformSettings, productSettings, diagnosticsSettings, segmentsSettings, mailchimpSettings)
}

@description('Name of the function app.')
output name string = app.name

@description('Address of the app, without a slash at its end.')
output url string = appUrl
