package admin

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// TestOpenAPI reads the description over HTTP: it names every call that the front takes, and every parameter that a
// handler looks for; each call it names is there, behind the token.
func TestOpenAPI(t *testing.T) {
	token := strings.Repeat("t", 40)
	s, err := New(Config{Address: "127.0.0.1:0", Token: token, Clock: &clock.Clock{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(s.Handler())
	defer front.Close()
	ask := func(method, path, token string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, front.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Summary    string
			Parameters []struct{ Name, In string }
			Responses  map[string]struct{ Content map[string]any }
		}
	}
	if err := json.NewDecoder(ask("GET", "/v1/openapi.json", token).Body).Decode(&doc); err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatalf("%q: %v", doc.OpenAPI, err)
	}
	named, told := map[string]bool{}, 0
	for path, operations := range doc.Paths {
		for method, o := range operations {
			if told++; o.Summary == "" || len(o.Responses["200"].Content) == 0 {
				t.Errorf("%s %s says too little: %+v", method, path, o)
			}
			inPath := 0
			for _, p := range o.Parameters {
				if p.In == "query" {
					named[p.Name] = true
				} else if inPath++; !strings.Contains(path, "{"+p.Name+"}") {
					t.Errorf("%s has no %q", path, p.Name)
				}
			}
			if inPath != strings.Count(path, "{") {
				t.Errorf("%s: %d parameters in the path", path, inPath)
			}
			real := strings.NewReplacer("{group}", "g", "{id}", "i").Replace(path)
			if resp := ask(strings.ToUpper(method), real, ""); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s %s without a token: %d", method, path, resp.StatusCode)
			}
			// Without services the calls say that they are not there yet; a call nobody registered is not found.
			if resp := ask(strings.ToUpper(method), real, token); resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, resp.StatusCode)
			}
		}
	}
	for path, operations := range doc.Paths {
		real := strings.NewReplacer("{group}", "g", "{id}", "i").Replace(path)
		if ask("PATCH", real, "").StatusCode != http.StatusUnauthorized {
			t.Errorf("PATCH %s without a token is answered", path)
		}
		resp := ask("PATCH", real, token)
		if allow := resp.Header.Get("Allow"); resp.StatusCode != http.StatusMethodNotAllowed || len(strings.Split(allow, ", ")) != len(operations) {
			t.Errorf("PATCH %s: %d, allowed %q", path, resp.StatusCode, allow)
		}
	}
	if told != len(s.routes()) {
		t.Errorf("%d calls described, %d served", told, len(s.routes()))
	}

	sought := map[string]bool{}
	registered := regexp.MustCompile(`"(?:GET|POST|PUT|DELETE) /v1/`)
	parameter := regexp.MustCompile(`(?:\bv|Query\(\))\.Get\("([a-z_]+)"\)`)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if registered.Match(raw) {
			t.Errorf("%s registers a call of the native API outside the table", file)
		}
		for _, m := range parameter.FindAllSubmatch(raw, -1) {
			sought[string(m[1])] = true
		}
	}
	if got, want := slices.Sorted(maps.Keys(named)), slices.Sorted(maps.Keys(sought)); !slices.Equal(got, want) {
		t.Errorf("described are the parameters %v, the handlers look for %v", got, want)
	}
}
