package httpcheck

import "github.com/open-policy-agent/opa/v1/ast"

// names are the terms that every input has, made once.
type names struct {
	// The members of an input and of the objects below that verdict adds.
	attributes, version, parsedPath, parsedQuery, parsedBody, truncatedBody, sourcePrincipal *ast.Term
	subject, action, resource, context, kind, id, name, network, ip, spiffeID                *ast.Term
	certificate, principal, v3, http, service                                                *ast.Term
	jwt, user, properties, issuer, session, amr, lastVerified                                *ast.Term

	// Of AttributeContext.

	source, destination, request, contextExtensions, metadataContext, routeMetadataContext, tlsSession *ast.Term
	address, labels, socketAddress, portValue, resolverName, ipv4Compat, protocol, namedPort           *ast.Term
	time, seconds, nanos, method, headers, path, host, scheme, query, fragment, size, body, rawBody    *ast.Term
	headerMap, networkNamespace                                                                        *ast.Term

	usual map[string]*ast.Term // names of headers that most requests have
}

func newNames() *names {
	t := ast.StringTerm
	usual := map[string]*ast.Term{}
	for _, name := range []string{
		":authority", ":method", ":path", ":scheme", "accept", "accept-encoding", "accept-language", "authorization", "cache-control",
		"content-length", "content-type", "cookie", "forwarded", "host", "if-none-match", "origin", "referer", "sec-ch-ua",
		"sec-ch-ua-mobile", "sec-ch-ua-platform", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user",
		"traceparent", "tracestate", "upgrade-insecure-requests", "user-agent", "x-correlation-id", "x-envoy-auth-partial-body",
		"x-envoy-external-address", "x-envoy-internal", "x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-host",
		"x-forwarded-proto", "x-request-id",
	} {
		usual[name] = t(name)
	}
	return &names{
		usual:      usual,
		attributes: t("attributes"), version: t("version"), parsedPath: t("parsed_path"), parsedQuery: t("parsed_query"),
		parsedBody: t("parsed_body"), truncatedBody: t("truncated_body"), sourcePrincipal: t("source_principal"),
		subject: t("subject"), action: t("action"), resource: t("resource"), context: t("context"), kind: t("type"), id: t("id"),
		name: t("name"), network: t("network"), ip: t("ip"), spiffeID: t("spiffe_id"),
		certificate: t("certificate"), principal: t("principal"), http: t("http"), service: t("service"),
		jwt: t("jwt"), user: t("user"), properties: t("properties"), issuer: t("issuer"), session: t("session"), amr: t("amr"),
		lastVerified: t("last_verified_at"),
		v3:           ast.ObjectTerm(ast.Item(t("ext_authz"), t("v3")), ast.Item(t("encoding"), t("protojson"))),

		source: t("source"), destination: t("destination"), request: t("request"), contextExtensions: t("contextExtensions"),
		metadataContext: t("metadataContext"), routeMetadataContext: t("routeMetadataContext"), tlsSession: t("tlsSession"),
		address: t("address"), labels: t("labels"), socketAddress: t("socketAddress"), portValue: t("portValue"),
		resolverName: t("resolverName"), ipv4Compat: t("ipv4Compat"), protocol: t("protocol"), namedPort: t("namedPort"),
		time: t("time"), seconds: t("seconds"), nanos: t("nanos"), method: t("method"), headers: t("headers"), path: t("path"),
		host: t("host"), scheme: t("scheme"), query: t("query"), fragment: t("fragment"), size: t("size"), body: t("body"),
		rawBody: t("rawBody"), headerMap: t("headerMap"), networkNamespace: t("networkNamespaceFilepath"),
	}
}
