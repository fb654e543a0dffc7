package admin

import (
	"html/template"
	"net/http"

	"github.com/ekiden-mta/ekiden/admin/service"
)

// healthz answers 200 while the process lives.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

type reasonJSON struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// readyz answers whether the node takes mail, and if not, why.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	status := s.status()
	out := struct {
		Ready   bool         `json:"ready"`
		State   string       `json:"state"`
		Reasons []reasonJSON `json:"reasons"`
	}{status.Ready(), status.State, []reasonJSON{}}
	for _, r := range status.Reasons {
		out.Reasons = append(out.Reasons, reasonJSON(r))
	}
	w.Header().Set("Content-Type", "application/json")
	if !out.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	writeJSON(w, out)
}

func (s *Server) status() service.Status {
	if s.c.Services.Node == nil {
		return service.Status{State: service.StateFailed, Reasons: []service.Reason{{Code: "starting", Detail: "the node is starting"}}}
	}
	return s.c.Services.Node.Status()
}

// page is what a browser finds until the console is built. Only a browser on this machine learns the node's name.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	status := s.status()
	_, err := s.guard.check(r)
	data := struct {
		service.Status
		Tell bool
	}{status, s.loopback || err == nil}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := frontPage().Execute(w, data); err != nil {
		s.c.Log.Debug("front page not written", "error", err)
	}
}

func frontPage() *template.Template {
	return template.Must(template.New("front").Parse(`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>ekiden{{if .Tell}} {{.Name}}{{end}}</title></head>
<body>
<h1>ekiden{{if .Tell}} {{.Name}}{{end}}</h1>
{{if .Tell}}<p>State: {{.State}}. Version: {{.Version}}.</p>
{{range .Reasons}}<p>{{.Code}}: {{.Detail}}</p>
{{end}}<p>This node is operated with the command <code>ekiden</code>; <a href="/readyz">readyz</a>, <a href="/metrics">metrics</a>.</p>
{{end}}</body>
</html>
`))
}
