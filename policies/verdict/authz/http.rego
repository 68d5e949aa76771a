package verdict.authz

# METADATA
# title: The decision on one HTTP request
# description: |
#   For gateways (ext_authz, forward auth), in the shape of opa-envoy-plugin's
#   results. data.verdict.http says how it comes about.
# entrypoint: true
http := data.verdict.http.answer
