# What verdict may do in Vault when somebody else creates its keys. transit/ is
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

path "transit/keys/verdict-*"     { capabilities = ["read"] }
path "transit/keys"               { capabilities = ["list"] }

# The life of the keys that exist: rotate, set the minimum versions, trim, and
# import further versions of those that were imported for escrow. A path for
# each key, since transit/keys/verdict-* with "update" would create keys.
path "transit/wrapping_key"       { capabilities = ["read"] }
path "transit/keys/verdict-internal/rotate"                { capabilities = ["update"] }
path "transit/keys/verdict-internal/config"                { capabilities = ["update"] }
path "transit/keys/verdict-internal/trim"                  { capabilities = ["update"] }
path "transit/keys/verdict-internal/import_version"        { capabilities = ["update"] }
path "transit/keys/verdict-confidential/rotate"            { capabilities = ["update"] }
path "transit/keys/verdict-confidential/config"            { capabilities = ["update"] }
path "transit/keys/verdict-confidential/trim"              { capabilities = ["update"] }
path "transit/keys/verdict-confidential/import_version"    { capabilities = ["update"] }
path "transit/keys/verdict-restricted/rotate"              { capabilities = ["update"] }
path "transit/keys/verdict-restricted/config"              { capabilities = ["update"] }
path "transit/keys/verdict-restricted/trim"                { capabilities = ["update"] }
path "transit/keys/verdict-restricted/import_version"      { capabilities = ["update"] }
path "transit/keys/verdict-top_secret/rotate"              { capabilities = ["update"] }
path "transit/keys/verdict-top_secret/config"              { capabilities = ["update"] }
path "transit/keys/verdict-top_secret/trim"                { capabilities = ["update"] }
path "transit/keys/verdict-top_secret/import_version"      { capabilities = ["update"] }
path "transit/keys/verdict-top_secret-mac/rotate"          { capabilities = ["update"] }
path "transit/keys/verdict-top_secret-mac/config"          { capabilities = ["update"] }
path "transit/keys/verdict-top_secret-mac/trim"            { capabilities = ["update"] }
path "transit/keys/verdict-top_secret-mac/import_version"  { capabilities = ["update"] }
