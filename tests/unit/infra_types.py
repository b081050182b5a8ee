"""What Azure lets a template set: Microsoft's resource types, as far as our templates use them.

Looked up in the public repository Azure/bicep-types-az, from which Microsoft's compiler takes its types too; above each
group stands the file below ``generated/`` and the commit it was read at. Shortened by hand to the paths in use: whoever
sets another property looks it up there first, and writes it down here.

A path is written as in the template, with ``[]`` for each item of an array. ``!`` behind it: Azure requires it
wherever the object around it is set. What may be there:

- ``string``, ``int``, ``bool``, ``string[]``, ``object``, ``object[]``
- ``strings``: an object of any names whose values are strings; ``objects``: one whose values are empty objects
- ``'A' | 'B'``: one of these. Azure's types often add ``| string``, to leave room for values of later years. The values
  that they name are all the same the only ones that we take: a misspelt one would be found by the deployment only.
- ``string 3..24`` limits the length, ``int 4..730`` the value, and ``string ^[a-z]+$`` is a pattern.
- ``literal 'A' | 'B'``: written out in the template. The type hangs on it, and the compiler does not evaluate.
"""

from __future__ import annotations

from typing import Final, TypeAlias

Paths: TypeAlias = dict[str, str]

SETTABLE: Final[dict[str, Paths]] = {
    # resources/microsoft.resources/2022-09-01/types.md @ 0d896a4d70c5ec0fa4e14740f6c72fdbe9b1a9c1
    "Microsoft.Resources/resourceGroups@2022-09-01": {
        "name!": r"string 1..90 ^[-\w\._\(\)]+$",
        "location!": "string",
        "tags": "strings",
    },
    # msi/microsoft.managedidentity/2023-01-31/types.md @ 30c7a915774d8076a1ccf57cb19be05b239fb66e
    "Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31": {
        "name!": "string",
        "location!": "string",
        "tags": "strings",
    },
    # authorization/microsoft.authorization/2022-04-01/types.md @ 0a678c498089eead7571c4a8495e147cdcd58d79
    "Microsoft.Authorization/roleAssignments@2022-04-01": {
        "name!": "string",
        "properties!": "object",
        "properties.principalId!": "string",
        "properties.principalType": "'Device' | 'ForeignGroup' | 'Group' | 'ServicePrincipal' | 'User'",
        "properties.roleDefinitionId!": "string",
    },
    # keyvault/microsoft.keyvault/2023-07-01/types.md @ 326b3589f201db73cbd08e3060f952eb931b487f; the limits of
    # softDeleteRetentionInDays and the values of publicNetworkAccess are those of its descriptions
    "Microsoft.KeyVault/vaults@2023-07-01": {
        "name!": "string ^[a-zA-Z0-9-]{3,24}$",
        "location!": "string",
        "tags": "strings",
        "properties!": "object",
        "properties.tenantId!": "string",
        "properties.sku!": "object",
        "properties.sku.family!": "'A'",
        "properties.sku.name!": "'premium' | 'standard'",
        "properties.enableRbacAuthorization": "bool",
        "properties.enableSoftDelete": "bool",
        "properties.enablePurgeProtection": "bool",
        "properties.softDeleteRetentionInDays": "int 7..90",
        "properties.publicNetworkAccess": "'Disabled' | 'Enabled'",
        "properties.networkAcls": "object",
        "properties.networkAcls.bypass": "'AzureServices' | 'None'",
        "properties.networkAcls.defaultAction": "'Allow' | 'Deny'",
    },
    "Microsoft.KeyVault/vaults/secrets@2023-07-01": {
        "name!": "string ^[a-zA-Z0-9-]{1,127}$",
        "properties!": "object",
        "properties.value": "string",
        "properties.contentType": "string",
    },
    # operationalinsights/microsoft.operationalinsights/2023-09-01/types.md @ 2bd21703a34d526eb31052d3aea64dd3474cce5e
    "Microsoft.OperationalInsights/workspaces@2023-09-01": {
        "name!": "string 4..63 ^[A-Za-z0-9][A-Za-z0-9-]+[A-Za-z0-9]$",
        "location!": "string",
        "tags": "strings",
        "properties": "object",
        "properties.sku": "object",
        "properties.sku.name!": "'CapacityReservation' | 'Free' | 'LACluster' | 'PerGB2018' | 'PerNode' | 'Premium'"
        " | 'Standalone' | 'Standard'",
        "properties.retentionInDays": "int",
        "properties.features": "object",
        "properties.features.enableLogAccessUsingOnlyResourcePermissions": "bool",
    },
    "Microsoft.OperationalInsights/workspaces/tables@2023-09-01": {
        "name!": "string 4..63 ^[A-Za-z0-9-_]+$",
        "properties": "object",
        "properties.plan": "'Analytics' | 'Basic'",
        "properties.retentionInDays": "int 4..730",
        "properties.totalRetentionInDays": "int 4..4383",
    },
    # applicationinsights/microsoft.insights/2020-02-02/types.md @ 0772349ba676561a4a6fe849b40e74174c24495a
    "Microsoft.Insights/components@2020-02-02": {
        "name!": "string",
        "location!": "string",
        "tags": "strings",
        "kind!": "string",
        "properties": "object",
        "properties.Application_Type!": "'other' | 'web'",
        "properties.DisableLocalAuth": "bool",
        "properties.IngestionMode": "'ApplicationInsights' | 'ApplicationInsightsWithDiagnosticSettings'"
        " | 'LogAnalytics'",
        "properties.WorkspaceResourceId": "string",
    },
    # applicationinsights/microsoft.insights/2023-06-01/types.md @ 30c7a915774d8076a1ccf57cb19be05b239fb66e
    "Microsoft.Insights/workbooks@2023-06-01": {
        "name!": "string",
        "location!": "string",
        "tags": "strings",
        "kind": "'shared'",
        "properties": "object",
        "properties.displayName!": "string",
        "properties.description": "string",
        "properties.category!": "string",
        "properties.sourceId": "string",
        "properties.version": "string",
        "properties.serializedData!": "string",
    },
    # monitor/microsoft.insights/2021-05-01-preview/types.md @ 07519c0f7146e9fd71d7ceee488fe89a1be9c18a
    "Microsoft.Insights/diagnosticSettings@2021-05-01-preview": {
        "name!": "string",
        "properties": "object",
        "properties.workspaceId": "string",
        "properties.logs": "object[]",
        "properties.logs[].categoryGroup": "string",
        "properties.logs[].enabled!": "bool",
    },
    # monitor/microsoft.insights/2023-01-01/types.md @ 54a4a303efb2eeee1200910e6b1a7aa30e91d5aa; the length of the short
    # name is that of Azure's documentation
    "Microsoft.Insights/actionGroups@2023-01-01": {
        "name!": "string",
        "location!": "string",
        "tags": "strings",
        "properties": "object",
        "properties.enabled!": "bool",
        "properties.groupShortName!": "string 1..12",
        "properties.emailReceivers": "object[]",
        "properties.emailReceivers[].name!": "string",
        "properties.emailReceivers[].emailAddress!": "string",
        "properties.emailReceivers[].useCommonAlertSchema": "bool",
    },
    # monitor/microsoft.insights/2023-12-01/types.md @ d2ca63f430855fc98933a5120917012cb3d54480; the limits of severity
    # are those of its description
    "Microsoft.Insights/scheduledQueryRules@2023-12-01": {
        "name!": "string",
        "location!": "string",
        "tags": "strings",
        "kind": "'LogAlert' | 'LogToMetric'",
        "properties!": "object",
        "properties.displayName": "string",
        "properties.description": "string",
        "properties.severity": "int 0..4",
        "properties.enabled": "bool",
        "properties.scopes": "string[]",
        "properties.evaluationFrequency": "string",
        "properties.windowSize": "string",
        "properties.autoMitigate": "bool",
        "properties.skipQueryValidation": "bool",
        "properties.criteria": "object",
        "properties.criteria.allOf": "object[]",
        "properties.criteria.allOf[].query": "string",
        "properties.criteria.allOf[].timeAggregation": "'Average' | 'Count' | 'Maximum' | 'Minimum' | 'Total'",
        "properties.criteria.allOf[].operator": "'Equals' | 'GreaterThan' | 'GreaterThanOrEqual' | 'LessThan'"
        " | 'LessThanOrEqual'",
        "properties.criteria.allOf[].threshold": "int",
        "properties.criteria.allOf[].dimensions": "object[]",
        "properties.criteria.allOf[].dimensions[].name!": "string",
        "properties.criteria.allOf[].dimensions[].operator!": "'Exclude' | 'Include'",
        "properties.criteria.allOf[].dimensions[].values!": "string[]",
        "properties.criteria.allOf[].failingPeriods": "object",
        "properties.criteria.allOf[].failingPeriods.numberOfEvaluationPeriods": "int",
        "properties.criteria.allOf[].failingPeriods.minFailingPeriodsToAlert": "int",
        "properties.actions": "object",
        "properties.actions.actionGroups": "string[]",
    },
    # storage/microsoft.storage/2023-05-01/types.md @ 3feacf70482cb7cbc4b47626b3528dabbf93e7d8; the values of blobTypes
    # are those of its description
    "Microsoft.Storage/storageAccounts@2023-05-01": {
        "name!": "string 3..24 ^[a-z0-9]+$",
        "location!": "string",
        "tags": "strings",
        "kind!": "'BlobStorage' | 'BlockBlobStorage' | 'FileStorage' | 'Storage' | 'StorageV2'",
        "sku!": "object",
        "sku.name!": "'Premium_LRS' | 'Premium_ZRS' | 'Standard_GRS' | 'Standard_GZRS' | 'Standard_LRS'"
        " | 'Standard_RAGRS' | 'Standard_RAGZRS' | 'Standard_ZRS'",
        "properties": "object",
        "properties.accessTier": "'Cold' | 'Cool' | 'Hot' | 'Premium'",
        "properties.allowBlobPublicAccess": "bool",
        "properties.allowCrossTenantReplication": "bool",
        "properties.allowSharedKeyAccess": "bool",
        "properties.defaultToOAuthAuthentication": "bool",
        "properties.minimumTlsVersion": "'TLS1_0' | 'TLS1_1' | 'TLS1_2' | 'TLS1_3'",
        "properties.supportsHttpsTrafficOnly": "bool",
        "properties.publicNetworkAccess": "'Disabled' | 'Enabled' | 'SecuredByPerimeter'",
        "properties.networkAcls": "object",
        "properties.networkAcls.bypass": "'AzureServices' | 'Logging' | 'Metrics' | 'None'",
        "properties.networkAcls.defaultAction!": "'Allow' | 'Deny'",
    },
    "Microsoft.Storage/storageAccounts/blobServices@2023-05-01": {
        "name!": "'default'",
        "properties": "object",
        "properties.deleteRetentionPolicy": "object",
        "properties.deleteRetentionPolicy.enabled": "bool",
        "properties.containerDeleteRetentionPolicy": "object",
        "properties.containerDeleteRetentionPolicy.enabled": "bool",
        "properties.containerDeleteRetentionPolicy.days": "int 1..365",
    },
    "Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01": {
        "name!": "string 3..63",
        "properties": "object",
        "properties.publicAccess": "'Blob' | 'Container' | 'None'",
    },
    "Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@2023-05-01": {
        "name!": "'default'",
        "properties!": "object",
        "properties.immutabilityPeriodSinceCreationInDays": "int",
        "properties.allowProtectedAppendWrites": "bool",
    },
    "Microsoft.Storage/storageAccounts/queueServices@2023-05-01": {
        "name!": "'default'",
    },
    "Microsoft.Storage/storageAccounts/queueServices/queues@2023-05-01": {
        "name!": "string 3..63 ^[a-z0-9]([a-z0-9]|(-(?!-))){1,61}[a-z0-9]$",
    },
    "Microsoft.Storage/storageAccounts/managementPolicies@2023-05-01": {
        "name!": "'default'",
        "properties": "object",
        "properties.policy!": "object",
        "properties.policy.rules!": "object[]",
        "properties.policy.rules[].name!": "string",
        "properties.policy.rules[].enabled": "bool",
        "properties.policy.rules[].type!": "'Lifecycle'",
        "properties.policy.rules[].definition!": "object",
        "properties.policy.rules[].definition.filters": "object",
        "properties.policy.rules[].definition.filters.blobTypes!": "string[]",
        "properties.policy.rules[].definition.filters.blobTypes[]": "'appendBlob' | 'blockBlob'",
        "properties.policy.rules[].definition.filters.prefixMatch": "string[]",
        "properties.policy.rules[].definition.actions!": "object",
        "properties.policy.rules[].definition.actions.baseBlob": "object",
        "properties.policy.rules[].definition.actions.baseBlob.delete": "object",
        "properties.policy.rules[].definition.actions.baseBlob.delete.daysAfterModificationGreaterThan": "int 0..",
    },
    # network/microsoft.network/2023-11-01/types.md @ 3751051e2dd777442b15b596bf1ad25232fec0f4
    "Microsoft.Network/virtualNetworks@2023-11-01": {
        "name!": "string",
        "location": "string",
        "tags": "strings",
        "properties": "object",
        "properties.addressSpace": "object",
        "properties.addressSpace.addressPrefixes": "string[]",
        "properties.subnets": "object[]",
        "properties.subnets[].name": "string",
        "properties.subnets[].properties": "object",
        "properties.subnets[].properties.addressPrefix": "string",
        "properties.subnets[].properties.delegations": "object[]",
        "properties.subnets[].properties.delegations[].name": "string",
        "properties.subnets[].properties.delegations[].properties": "object",
        "properties.subnets[].properties.delegations[].properties.serviceName": "string",
        "properties.subnets[].properties.privateEndpointNetworkPolicies": "'Disabled' | 'Enabled'"
        " | 'NetworkSecurityGroupEnabled' | 'RouteTableEnabled'",
    },
    "Microsoft.Network/privateEndpoints@2023-11-01": {
        "name!": "string",
        "location": "string",
        "tags": "strings",
        "properties": "object",
        "properties.subnet": "object",
        "properties.subnet.id": "string",
        "properties.privateLinkServiceConnections": "object[]",
        "properties.privateLinkServiceConnections[].name": "string",
        "properties.privateLinkServiceConnections[].properties": "object",
        "properties.privateLinkServiceConnections[].properties.privateLinkServiceId": "string",
        "properties.privateLinkServiceConnections[].properties.groupIds": "string[]",
    },
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2023-11-01": {
        "name!": "string",
        "properties": "object",
        "properties.privateDnsZoneConfigs": "object[]",
        "properties.privateDnsZoneConfigs[].name": "string",
        "properties.privateDnsZoneConfigs[].properties": "object",
        "properties.privateDnsZoneConfigs[].properties.privateDnsZoneId": "string",
    },
    # privatedns/microsoft.network/2020-06-01/types.md @ 072449a6062ea6a103e9b2d3412cb464acd3c51f
    "Microsoft.Network/privateDnsZones@2020-06-01": {
        "name!": "string",
        "location": "string",
        "tags": "strings",
    },
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks@2020-06-01": {
        "name!": "string",
        "location": "string",
        "tags": "strings",
        "properties": "object",
        "properties.registrationEnabled": "bool",
        "properties.virtualNetwork": "object",
        "properties.virtualNetwork.id": "string",
    },
    # web/microsoft.web/2024-04-01/types.md @ 30c7a915774d8076a1ccf57cb19be05b239fb66e
    "Microsoft.Web/serverfarms@2024-04-01": {
        "name!": "string",
        "location!": "string",
        "tags": "strings",
        "kind": "string",
        "sku": "object",
        "sku.name": "string",
        "sku.tier": "string",
        "properties": "object",
        "properties.reserved": "bool",
    },
    "Microsoft.Web/sites@2024-04-01": {
        "name!": "string",
        "location!": "string",
        "tags": "strings",
        "kind": "string",
        "identity": "object",
        "identity.type": "'None' | 'SystemAssigned' | 'SystemAssigned, UserAssigned' | 'UserAssigned'",
        "identity.userAssignedIdentities": "objects",
        "properties": "object",
        "properties.serverFarmId": "string",
        "properties.httpsOnly": "bool",
        "properties.keyVaultReferenceIdentity": "string",
        "properties.virtualNetworkSubnetId": "string",
        "properties.siteConfig": "object",
        "properties.siteConfig.minTlsVersion": "'1.0' | '1.1' | '1.2' | '1.3'",
        "properties.siteConfig.cors": "object",
        "properties.siteConfig.cors.allowedOrigins": "string[]",
        "properties.siteConfig.cors.supportCredentials": "bool",
        "properties.functionAppConfig": "object",
        "properties.functionAppConfig.runtime": "object",
        "properties.functionAppConfig.runtime.name": "'custom' | 'dotnet-isolated' | 'java' | 'node' | 'powershell'"
        " | 'python'",
        "properties.functionAppConfig.runtime.version": "string",
        "properties.functionAppConfig.scaleAndConcurrency": "object",
        "properties.functionAppConfig.scaleAndConcurrency.instanceMemoryMB": "int",
        "properties.functionAppConfig.scaleAndConcurrency.maximumInstanceCount": "int",
        "properties.functionAppConfig.deployment": "object",
        "properties.functionAppConfig.deployment.storage": "object",
        "properties.functionAppConfig.deployment.storage.type": "'blobContainer'",
        "properties.functionAppConfig.deployment.storage.value": "string",
        "properties.functionAppConfig.deployment.storage.authentication": "object",
        "properties.functionAppConfig.deployment.storage.authentication.type": "'StorageAccountConnectionString'"
        " | 'SystemAssignedIdentity' | 'UserAssignedIdentity'",
        "properties.functionAppConfig.deployment.storage.authentication.userAssignedIdentityResourceId": "string",
    },
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01": {
        "name!": "literal 'ftp' | 'scm'",
        "properties": "object",
        "properties.allow!": "bool",
    },
    "Microsoft.Web/sites/config@2024-04-01 appsettings": {
        "name!": "literal 'appsettings'",
        "properties": "strings",
    },
    "Microsoft.Web/sites/config@2024-04-01 authsettingsV2": {
        "name!": "literal 'authsettingsV2'",
        "properties": "object",
        "properties.platform": "object",
        "properties.platform.enabled": "bool",
        "properties.httpSettings": "object",
        "properties.httpSettings.requireHttps": "bool",
        "properties.globalValidation": "object",
        "properties.globalValidation.requireAuthentication": "bool",
        "properties.globalValidation.unauthenticatedClientAction": "'AllowAnonymous' | 'RedirectToLoginPage'"
        " | 'Return401' | 'Return403'",
        "properties.globalValidation.redirectToProvider": "string",
        "properties.globalValidation.excludedPaths": "string[]",
        "properties.identityProviders": "object",
        "properties.identityProviders.azureActiveDirectory": "object",
        "properties.identityProviders.azureActiveDirectory.enabled": "bool",
        "properties.identityProviders.azureActiveDirectory.registration": "object",
        "properties.identityProviders.azureActiveDirectory.registration.clientId": "string",
        "properties.identityProviders.azureActiveDirectory.registration.clientSecretSettingName": "string",
        "properties.identityProviders.azureActiveDirectory.registration.openIdIssuer": "string",
        "properties.identityProviders.azureActiveDirectory.validation": "object",
        "properties.identityProviders.azureActiveDirectory.validation.allowedAudiences": "string[]",
        "properties.login": "object",
        "properties.login.tokenStore": "object",
        "properties.login.tokenStore.enabled": "bool",
    },
}
"""By type and API version; where the type hangs on the name, the name follows."""

READABLE: Final[dict[str, Paths]] = {
    "Microsoft.Insights/components@2020-02-02": {"properties.ConnectionString": "string"},
    "Microsoft.KeyVault/vaults@2023-07-01": {"properties.vaultUri": "string"},
    "Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31": {
        "properties.clientId": "string",
        "properties.principalId": "string",
    },
    "Microsoft.OperationalInsights/workspaces@2023-09-01": {"properties.customerId": "string"},
    "Microsoft.Storage/storageAccounts@2023-05-01": {"properties.primaryEndpoints.blob": "string"},
    "Microsoft.Web/sites@2024-04-01": {"properties.defaultHostName": "string"},
}
"""What the templates read of a deployed resource, from the same files; ``id`` and ``name`` can be read of each."""
