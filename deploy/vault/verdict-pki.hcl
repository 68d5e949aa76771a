# What verdict needs of the PKI engine at pki/; beside verdict.hcl where keys are in
# Vault too.
# Only signing requests are signed: verdict cannot have Vault make a key.

path "pki/sign/verdict-server" {
  capabilities = ["update"]
}

path "pki/sign/verdict-client" {
  capabilities = ["update"]
}

path "pki/revoke" {
  capabilities = ["update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
