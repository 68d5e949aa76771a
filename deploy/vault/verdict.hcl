# What verdict may do in Vault when it creates its keys itself. transit/ is
# keys.vault.mount and verdict- is keys.vault.key_prefix; docs/vault.md has the
# commands. verdict can neither delete nor export a key, nor touch another's.

# Its own token: to tell a lost token from a refused call, and to renew it.
path "auth/token/lookup-self"     { capabilities = ["read"] }
path "auth/token/renew-self"      { capabilities = ["update"] }

# Data keys are wrapped, unwrapped and wrapped anew. Without "create" a key that
# is missing is not made by the way.
path "transit/encrypt/verdict-*"  { capabilities = ["update"] }
path "transit/decrypt/verdict-*"  { capabilities = ["update"] }
path "transit/rewrap/verdict-*"   { capabilities = ["update"] }

# Signatures, and the MACs of values under RSA keys.
path "transit/sign/verdict-*"     { capabilities = ["update"] }
path "transit/hmac/verdict-*"     { capabilities = ["update"] }
path "transit/verify/verdict-*"   { capabilities = ["update"] }

# The life of the keys: create, import (escrow), describe, rotate, set the
# minimum versions, trim.
path "transit/keys/verdict-*"     { capabilities = ["read", "update"] }
path "transit/keys"               { capabilities = ["list"] }
path "transit/wrapping_key"       { capabilities = ["read"] }
