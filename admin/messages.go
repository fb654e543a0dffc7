package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/ekiden-mta/ekiden/admin/rpc"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// message serves GET /v1/messages/{id}?tenant=&user=: what happened to a message, the newest maxEvents of it, and what those of its
// deliveries wait for that are not finished. Events and deliveries have the form they have in the RPC. Of another tenant, or
// handed over by another user, there is no such message.
func (s *Server) message(w http.ResponseWriter, r *http.Request) {
	if s.c.Services.Log == nil {
		s.refuse(w, r, service.ErrNotYet)
		return
	}
	id, err := service.ParseMessage(r.PathValue("id"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), searchMost)
	defer cancel()
	t, err := s.c.Services.Log.Trace(ctx, service.TraceQuery{Message: id, Limit: maxEvents})
	missing, err := absent(w, err)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	v := r.URL.Query()
	tenant, user := v.Get("tenant"), v.Get("user")
	t.Events = slices.DeleteFunc(t.Events, func(e mail.Event) bool {
		return tenant != "" && e.Tenant != tenant || user != "" && e.User != user
	})
	if len(t.Events) == 0 {
		if t.Waiting = nil; len(missing) == 0 {
			s.refuse(w, r, fmt.Errorf("%w: nothing is known about message %s", service.ErrNotFound, id))
			return
		}
	}
	out := struct {
		Message string            `json:"message"`
		Events  []json.RawMessage `json:"events"`
		Waiting []json.RawMessage `json:"waiting"`
		Missing []absentJSON      `json:"missing,omitempty"` // what they know of it is not here
	}{id.String(), []json.RawMessage{}, []json.RawMessage{}, missing}
	for i := range t.Events {
		raw, err := protoJSON(rpc.Event(&t.Events[i]))
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		out.Events = append(out.Events, raw)
	}
	for i := range t.Waiting {
		raw, err := protoJSON(rpc.Waiting(&t.Waiting[i]))
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		out.Waiting = append(out.Waiting, raw)
	}
	reply(w, out)
}

// protoJSON is a message of the RPC as the RPC writes it.
func protoJSON(m proto.Message) (json.RawMessage, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("admin: write JSON: %w", err)
	}
	return raw, nil
}
