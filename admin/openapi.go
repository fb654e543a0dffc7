package admin

import (
	"net/http"
	"strings"
)

// route is a call of the native API: how it is found, what it is for, and what it takes. The front is built from the same
// table as its description, so neither can be ahead of the other.
type route struct {
	method, path string
	summary      string
	query        string // names of its parameters, separated by blanks
	body         string // media type of its request; "" = none
	answer       string // media types of its answer, separated by blanks
	serve        http.HandlerFunc
}

const jsonType = "application/json"

// routes is the native API (contract: HTTP).
func (s *Server) routes() []route {
	const days = "tenant composition user domain from to view by"
	return []route{
		{"GET", "/v1/openapi.json", "This description", "", "", jsonType, s.openAPI},
		{"GET", "/v1/counters", "The twelve counters in one of three windows", "unit group domain tenant", "", jsonType, s.counters},
		{"GET", "/v1/queues", "Mail waiting by carrier", "tenant", "", jsonType, s.queues},
		{"GET", "/v1/statistics", "Statistics of days that have been worked up", days, "", jsonType, s.statistics},
		{"GET", "/v1/error-addresses", "Addresses of a day that do not exist or refused mail", "tenant domain date user cursor format", "",
			jsonType + " text/tab-separated-values", s.errorAddresses},
		{"GET", "/v1/error-addresses/downloads", "The newest downloads of error addresses", "tenant", "", jsonType, s.downloads},
		{"GET", "/v1/events", "Search the event log", "cursor limit to from domain group tenant user message status class source api_data since until mail", "",
			jsonType, s.events},
		{"GET", "/v1/messages/{id}", "What happened to a message, and what it waits for", "tenant user", "", jsonType, s.message},
		{"POST", "/v1/groups/{group}/stop", "Stop a delivery group", "tenant", jsonType, jsonType, s.stopGroup},
		{"POST", "/v1/groups/{group}/resume", "Let a stopped group go on", "tenant", jsonType, jsonType, s.resumeGroup},
		{"POST", "/v1/groups/{group}/discard", "End the queued mail of a stopped group", "tenant", jsonType, jsonType, s.discardGroup},
		{"GET", settingsPath, "The settings in force", "", "", jsonType + " application/yaml", s.settings},
		{"PUT", settingsPath, "Put other settings in force", "dry_run", jsonType + " application/yaml", jsonType, s.applySettings},
		{"GET", "/v1/reservations", "Reserved mail in groups", "tenant", "", jsonType, s.reservations},
		{"DELETE", "/v1/reservations/{id}", "Cancel a group of reserved mail", "tenant", "", jsonType, s.cancelReservation},
		{"GET", "/v1/suppressions", "Addresses that get no mail", "tenant list address since until cursor limit", "", jsonType, s.suppressions},
		{"POST", "/v1/suppressions", "Put an address on a list", "", jsonType, jsonType, s.suppress},
		{"DELETE", "/v1/suppressions", "Take an address off a list", "address list tenant filter", jsonType, jsonType, s.unsuppress},
		{"GET", "/v1/delivery-stops", "What stops deliveries by itself, and when it ran last", "tenant", "", jsonType, s.deliveryStops},
	}
}

// openAPI serves GET /v1/openapi.json (OpenAPI 3.1).
func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	type object = map[string]any
	paths := map[string]object{}
	for _, r := range s.routes() {
		parameters := []object{}
		for rest := r.path; ; {
			_, after, found := strings.Cut(rest, "{")
			if !found {
				break
			}
			name, tail, _ := strings.Cut(after, "}")
			parameters = append(parameters, object{"name": name, "in": "path", "required": true, "schema": object{"type": "string"}})
			rest = tail
		}
		for _, name := range strings.Fields(r.query) {
			parameters = append(parameters, object{"name": name, "in": "query", "schema": object{"type": "string"}})
		}
		operation := object{"summary": r.summary, "parameters": parameters, "responses": object{
			"200":     object{"description": "done", "content": contents(r.answer)},
			"default": object{"description": "refused, or trouble (RFC 9457)", "content": contents("application/problem+json")}}}
		if _, ok := readable(r.method, r.path); ok {
			operation["security"] = []object{{"token": []string{}}, {"user": []string{}}}
		}
		if r.body != "" {
			operation["requestBody"] = object{"content": contents(r.body)}
		}
		if paths[r.path] == nil {
			paths[r.path] = object{}
		}
		paths[r.path][strings.ToLower(r.method)] = operation
	}
	version := ""
	if s.c.Services.Node != nil {
		version = s.c.Services.Node.Status().Version
	}
	reply(w, object{"openapi": "3.1.0", "info": object{"title": "ekiden", "version": version},
		"components": object{"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"},
			"user": object{"type": "http", "scheme": "basic"}}},
		"security": []object{{"token": []string{}}}, "paths": paths})
}

// contents lists media types.
func contents(types string) map[string]any {
	out := map[string]any{}
	for _, t := range strings.Fields(types) {
		out[t] = map[string]any{"schema": map[string]any{}}
	}
	return out
}
