package openapi

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/verdict-pdp/verdict/api"
)

// complete gives the operations of a part what their class says: who may call
// them, and the answers that come from in front of the handler. What the part
// says itself stays.
func complete(protocol string, part object) error {
	paths, _ := part["paths"].(object)
	for _, at := range slices.Sorted(maps.Keys(paths)) {
		item, ok := paths[at].(object)
		if !ok {
			return fmt.Errorf("%s is no object", at)
		}
		for _, method := range methods() {
			op, ok := item[method].(object)
			if !ok {
				continue
			}
			if err := completeOperation(protocol, op); err != nil {
				return fmt.Errorf("%s %s: %w", method, at, err)
			}
		}
	}
	return nil
}

func methods() []string {
	return []string{"get", "put", "post", "delete", "head", "patch"}
}

func completeOperation(protocol string, op object) error {
	name, _ := op["x-verdict-class"].(string)
	class, ok := api.ClassNamed(name)
	if !ok {
		return fmt.Errorf("x-verdict-class %q is no class of routes", name)
	}
	access := class.Access()
	op["x-verdict-access"] = object{"dev": access.Dev, "otherwise": access.Live}
	op["x-verdict-scopes"] = access.Scopes
	op["security"] = security(access)
	op["x-verdict-listeners"] = access.Listeners
	if access.BodyLimit != "" && op["requestBody"] != nil {
		op["x-verdict-body-limit"] = access.BodyLimit
	}
	responses, ok := op["responses"].(object)
	if !ok {
		return fmt.Errorf("there are no responses")
	}
	responses["431"] = object{"$ref": "#/components/responses/HeaderTooLarge"}
	for _, status := range refusals(protocol, access, op) {
		key := strconv.Itoa(status)
		if responses[key] == nil {
			responses[key] = object{"$ref": "#/components/responses/" + errorName(protocol, status)}
		}
	}
	return nil
}

// security lists the credentials of which one is enough. An empty object stands
// for none, where there are settings with which none is needed.
func security(a api.ClassAccess) []object {
	if len(a.Scopes) == 0 {
		return []object{}
	}
	list := []object{{"bearer": a.Scopes}, {"certificate": a.Scopes}}
	if a.Dev == "open" {
		list = append(list, object{})
	}
	return list
}

// refusals are the statuses of what the gate answers, and of a failure.
func refusals(protocol string, a api.ClassAccess, op object) []int {
	if protocol == "forward" {
		return []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable}
	}
	list := []int{http.StatusInternalServerError}
	if len(a.Scopes) > 0 {
		list = append(list, http.StatusUnauthorized, http.StatusForbidden)
	}
	if !a.Vital {
		list = append(list, http.StatusNotFound, http.StatusServiceUnavailable)
	}
	if op["requestBody"] != nil {
		list = append(list, http.StatusBadRequest, http.StatusRequestTimeout)
		if protocol != "opa" { // OPA answers 400
			list = append(list, http.StatusRequestEntityTooLarge)
		}
	}
	return list
}

func errorName(protocol string, status int) string {
	return protocol + "-" + strconv.Itoa(status)
}

// addErrors adds the answers that refusals names.
func addErrors(doc object) {
	responses := object{}
	for protocol, shape := range map[string][2]string{
		"opa":          {"application/json", "OPAError"},
		"authzen":      {"application/json", "AuthZENError"},
		"native":       {"application/problem+json", "Problem"},
		"bundles":      {"application/problem+json", "Problem"},
		"keyring":      {"application/problem+json", "Problem"},
		"certificates": {"application/problem+json", "Problem"},
		"forward":      {"application/problem+json", "Problem"},
	} {
		for status, text := range map[int]string{
			http.StatusBadRequest:            "The request could not be understood.",
			http.StatusUnauthorized:          "No credential, or one that is not good.",
			http.StatusForbidden:             "The caller may not: it lacks the scope, or the caller policy refuses.",
			http.StatusNotFound:              "There is no such thing, or not on this listener.",
			http.StatusRequestTimeout:        "The body came too slowly.",
			http.StatusRequestEntityTooLarge: "The body is larger than its limit.",
			http.StatusInternalServerError:   "The request could not be served.",
			http.StatusServiceUnavailable:    "Overloaded, or the audit log cannot take the record (`audit_unavailable`). Nothing was answered or done.",
		} {
			response := object{
				"description": text,
				"content":     object{shape[0]: object{"schema": object{"$ref": "#/components/schemas/" + shape[1]}}},
			}
			switch status {
			case http.StatusUnauthorized, http.StatusForbidden:
				response["headers"] = object{"WWW-Authenticate": object{"$ref": "#/components/headers/WWW-Authenticate"}}
			case http.StatusServiceUnavailable:
				response["headers"] = object{"Retry-After": object{"$ref": "#/components/headers/Retry-After"}}
			}
			responses[errorName(protocol, status)] = response
		}
	}
	unused(doc, responses)
	components, _ := doc["components"].(object)
	own, _ := components["responses"].(object)
	maps.Copy(responses, own)
	components["responses"] = responses
}
