-- What the stand-in keeps, under the names that the real one gives its tables; columns are named as in its answers.
CREATE TABLE kms_root_config (id int PRIMARY KEY, "encryptedRootKey" bytea NOT NULL);
CREATE TABLE super_admin (
    id uuid PRIMARY KEY DEFAULT '00000000-0000-0000-0000-000000000000', initialized bool NOT NULL DEFAULT false,
    "allowSignUp" bool NOT NULL DEFAULT true, "allowedSignUpDomain" text,
    "instanceId" uuid NOT NULL DEFAULT gen_random_uuid(), "trustSamlEmails" bool NOT NULL DEFAULT false,
    "trustLdapEmails" bool NOT NULL DEFAULT false, "trustOidcEmails" bool NOT NULL DEFAULT false,
    "defaultAuthOrgId" uuid, "enabledLoginMethods" text[], "onboardingCompleted" bool NOT NULL DEFAULT false);
INSERT INTO super_admin DEFAULT VALUES;
CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email text NOT NULL UNIQUE, "firstName" text, "lastName" text,
    "superAdmin" bool NOT NULL DEFAULT true, password text NOT NULL,
    "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now());
CREATE TABLE organizations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, slug text NOT NULL UNIQUE,
    "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now());
CREATE TABLE org_memberships (
    "orgId" uuid NOT NULL REFERENCES organizations ON DELETE CASCADE, "userId" uuid NOT NULL REFERENCES users,
    role text NOT NULL);
CREATE TABLE identities (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "orgId" uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    name text NOT NULL, role text NOT NULL, "instanceAdmin" bool NOT NULL DEFAULT false,
    "hasDeleteProtection" bool NOT NULL DEFAULT false,
    "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now());
CREATE TABLE identity_token_auths (
    "identityId" uuid PRIMARY KEY REFERENCES identities ON DELETE CASCADE);
CREATE TABLE identity_universal_auths (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "clientId" uuid NOT NULL DEFAULT gen_random_uuid(),
    "identityId" uuid NOT NULL UNIQUE REFERENCES identities ON DELETE CASCADE,
    "accessTokenTTL" bigint NOT NULL, "accessTokenMaxTTL" bigint NOT NULL, "accessTokenNumUsesLimit" bigint NOT NULL,
    "accessTokenPeriod" bigint NOT NULL DEFAULT 0, "lockoutEnabled" bool NOT NULL DEFAULT true,
    "lockoutThreshold" int NOT NULL DEFAULT 3, "lockoutDurationSeconds" int NOT NULL DEFAULT 300,
    "lockoutCounterResetSeconds" int NOT NULL DEFAULT 30,
    "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now());
CREATE TABLE identity_ua_client_secrets (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), description text NOT NULL, "clientSecretPrefix" text NOT NULL,
    "clientSecretHash" text NOT NULL, "clientSecretNumUses" bigint NOT NULL DEFAULT 0,
    "clientSecretNumUsesLimit" bigint NOT NULL, "clientSecretTTL" bigint NOT NULL,
    "identityUAId" uuid NOT NULL REFERENCES identity_universal_auths ON DELETE CASCADE,
    "isClientSecretRevoked" bool NOT NULL DEFAULT false,
    "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now());
CREATE TABLE identity_access_tokens (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    "identityId" uuid NOT NULL REFERENCES identities ON DELETE CASCADE, name text,
    ttl bigint NOT NULL, "maxTTL" bigint NOT NULL, "numUses" bigint NOT NULL DEFAULT 0,
    "numUsesLimit" bigint NOT NULL DEFAULT 0, "lastRenewedAt" timestamptz,
    "createdAt" timestamptz NOT NULL DEFAULT now());
CREATE TABLE projects (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, slug text NOT NULL UNIQUE,
    description text, type text NOT NULL DEFAULT 'secret-manager',
    "orgId" uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now());
CREATE TABLE project_memberships (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "projectId" uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    "identityId" uuid REFERENCES identities ON DELETE CASCADE, "userId" uuid REFERENCES users ON DELETE CASCADE,
    role text NOT NULL, "roleId" uuid NOT NULL DEFAULT gen_random_uuid(),
    "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now(),
    UNIQUE ("projectId", "identityId"));
CREATE TABLE project_environments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "projectId" uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    name text NOT NULL, slug text NOT NULL, position int NOT NULL,
    "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now(),
    UNIQUE ("projectId", slug));
CREATE TABLE secret_folders (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "envId" uuid NOT NULL REFERENCES project_environments ON DELETE CASCADE,
    "parentId" uuid REFERENCES secret_folders ON DELETE CASCADE, name text NOT NULL, version int NOT NULL DEFAULT 1,
    "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now());
-- As in the real one, nothing here says that a key is there once.
CREATE TABLE secrets_v2 (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "folderId" uuid NOT NULL REFERENCES secret_folders ON DELETE CASCADE,
    key text NOT NULL, version int NOT NULL DEFAULT 1, "encryptedValue" bytea NOT NULL, "encryptedComment" bytea NOT NULL,
    "reminderNote" text, "reminderRepeatDays" int, "skipMultilineEncoding" bool NOT NULL DEFAULT false,
    "secretMetadata" jsonb NOT NULL DEFAULT '[]',
    "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON secrets_v2 ("folderId");
CREATE TABLE secret_versions_v2 (
    "secretId" uuid NOT NULL REFERENCES secrets_v2 ON DELETE CASCADE, version int NOT NULL, "encryptedValue" bytea NOT NULL);
CREATE TABLE secret_imports (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "folderId" uuid NOT NULL REFERENCES secret_folders ON DELETE CASCADE,
    "importEnvId" uuid NOT NULL REFERENCES project_environments ON DELETE CASCADE, "importPath" text NOT NULL,
    position int NOT NULL, version int NOT NULL DEFAULT 1,
    "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now());
