// A virtual network of the app's own: the app's outbound calls start in one subnet, storage and Key Vault are reached
// through private endpoints in the other. Inbound calls to the app stay on its public HTTPS address.

@description('Suffix of the resource names.')
param name string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Address range of the subnet that the app calls out from.')
param appSubnetPrefix string

@description('Address range of the subnet of the private endpoints.')
param endpointSubnetPrefix string

@description('Storage account of the app.')
param storageAccountId string

@description('Services of that account that the app and its host use; each gets an endpoint.')
param storageServices array

@description('Key Vault of the app.')
param keyVaultId string

@description('Other storage account that holds the segments. Empty: none.')
param segmentsStorageAccountId string

// The other account needs its endpoint here even if it is open to the internet: once this network has a zone for
// privatelink.blob, an account that has any private endpoint is no longer found through public DNS.
var segmentsEndpoint = empty(segmentsStorageAccountId) ? [] : [
  {
    name: 'segments-blob'
    service: 'blob'
    target: segmentsStorageAccountId
  }
]
var storageEndpoints = [for service in storageServices: {
  name: 'storage-${service}'
  service: service
  target: storageAccountId
}]
var vaultEndpoint = [
  {
    name: 'keyvault'
    service: 'vault'
    target: keyVaultId
  }
]
var endpoints = concat(storageEndpoints, vaultEndpoint, segmentsEndpoint)
var zonedServices = concat(storageServices, [ 'vault' ])
var zoneOfService = {
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  queue: 'privatelink.queue.${environment().suffixes.storage}'
  table: 'privatelink.table.${environment().suffixes.storage}'
  // environment() knows the vault's public suffix only, and private link uses another name for it.
  vault: 'privatelink.vaultcore.azure.net'
}

resource virtualNetwork 'Microsoft.Network/virtualNetworks@2023-11-01' = {
  name: 'vnet-${name}'
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        appSubnetPrefix
        endpointSubnetPrefix
      ]
    }
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: appSubnetPrefix
          delegations: [
            {
              name: 'flex-consumption'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
        }
      }
      {
        name: 'private-endpoints'
        properties: {
          addressPrefix: endpointSubnetPrefix
          privateEndpointNetworkPolicies: 'Disabled'
        }
      }
    ]
  }
}

resource zones 'Microsoft.Network/privateDnsZones@2020-06-01' = [for service in zonedServices: {
  name: zoneOfService[service]
  location: 'global'
  tags: tags
}]

resource zoneLinks 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2020-06-01' = [for (service, i) in zonedServices: {
  parent: zones[i]
  name: 'link-${name}'
  location: 'global'
  tags: tags
  properties: {
    registrationEnabled: false
    virtualNetwork: {
      id: virtualNetwork.id
    }
  }
}]

resource privateEndpoints 'Microsoft.Network/privateEndpoints@2023-11-01' = [for endpoint in endpoints: {
  name: 'pep-${endpoint.name}-${name}'
  location: location
  tags: tags
  properties: {
    subnet: {
      id: '${virtualNetwork.id}/subnets/private-endpoints'
    }
    privateLinkServiceConnections: [
      {
        name: endpoint.name
        properties: {
          privateLinkServiceId: endpoint.target
          groupIds: [
            endpoint.service
          ]
        }
      }
    ]
  }
}]

resource zoneGroups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2023-11-01' = [for (endpoint, i) in endpoints: {
  parent: privateEndpoints[i]
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: endpoint.service
        properties: {
          privateDnsZoneId: resourceId('Microsoft.Network/privateDnsZones', zoneOfService[endpoint.service])
        }
      }
    ]
  }
  dependsOn: [
    zones
  ]
}]

@description('Subnet from which the app calls out.')
output appSubnetId string = '${virtualNetwork.id}/subnets/app'
