// Sign-in by the platform ("EasyAuth") with Entra ID: every call carries a token or a session of this tenant before it
// reaches the app. What a caller may do is decided in the app by the app roles Viewer, Contributor and Administrator.

@description('Name of the function app.')
param functionAppName string

@description('Application (client) ID of the Entra ID app registration.')
@minLength(36)
@maxLength(36)
param entraClientId string

resource app 'Microsoft.Web/sites@2024-04-01' existing = {
  name: functionAppName
}

resource auth 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: app
  name: 'authsettingsV2'
  properties: {
    platform: {
      enabled: true
    }
    httpSettings: {
      requireHttps: true
    }
    globalValidation: {
      requireAuthentication: true
      // A redirect and not a bare 401: a browser that comes back from Mailchimp without a session signs in on the way
      // and lands on the callback as the same person. A wrong or expired token is answered with 401 either way.
      unauthenticatedClientAction: 'RedirectToLoginPage'
      redirectToProvider: 'azureactivedirectory'
      // Open on purpose: a probe has no token. It learns nothing but that the app runs.
      excludedPaths: [
        '/api/health'
      ]
    }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        registration: {
          clientId: entraClientId
          // Name of a setting, not a secret: the app's identity signs in by a federated credential.
          clientSecretSettingName: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
          openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
        }
        validation: {
          allowedAudiences: [
            entraClientId
            'api://${entraClientId}'
          ]
        }
      }
    }
    login: {
      // The app needs who the caller is, never the caller's token.
      tokenStore: {
        enabled: false
      }
    }
  }
}
