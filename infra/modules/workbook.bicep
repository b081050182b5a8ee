// The picture of what the app does: exports, waits, refusals. Its queries read the app's own log lines.

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Resource ID of the Log Analytics workspace that takes the app\'s logs.')
param workspaceId string

resource exports 'Microsoft.Insights/workbooks@2023-06-01' = {
  // Azure asks for a GUID here; the same one every time, or each deployment would add a workbook.
  name: guid(workspaceId, 'exports')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Exports to Mailchimp'
    description: 'Every export with its books, what is waiting, and what went wrong.'
    category: 'workbook'
    sourceId: workspaceId
    version: '1.0'
    serializedData: replace(loadTextContent('../workbooks/exports.json'), '{workspaceId}', workspaceId)
  }
}

@description('Resource ID.')
output id string = exports.id
