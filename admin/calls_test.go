package admin

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// TestStopGroupByCurl: what the contract shows, by RPC and by the native API.
func TestStopGroupByCurl(t *testing.T) {
	f := mustFront(t, nil)
	const told = `"held":7,"in_flight":2,"last_sent":"2001-09-09T01:46:40.5`
	same := func(name string, a answer, status int, want ...string) {
		t.Helper()
		body := strings.ReplaceAll(a.body, ": ", ":")
		body = strings.ReplaceAll(body, ", ", ",")
		for _, w := range want {
			if a.status != status || !strings.Contains(body, w) {
				t.Errorf("%s: got %d %s, want %d %s", name, a.status, a.body, status, w)
			}
		}
	}
	a := f.call("POST", calls+"StopGroup", `{"group":"g1","hold_expiry":true,"tenant":"shop"}`, bearer, asJSON)
	same("rpc", a, 200, `"state":"stopping"`, told, `{"name":"n1","confirmed":true,`, `{"name":"n2","confirmed":false,"missing_for":"2.500s"}`)
	if want := (service.GroupStop{Tenant: "shop", Group: "g1", HoldExpiry: true, Author: "operator"}); f.node.stop != want {
		t.Errorf("asked for %+v", f.node.stop)
	}
	same("discard", f.call("POST", calls+"DiscardGroup", `{"group":"g1","tenant":"shop"}`, bearer, asJSON), 200, `{"discarded":7,`)
	same("discard without n2", f.call("POST", calls+"DiscardGroup", `{"group":"spread","tenant":"shop"}`, bearer, asJSON), 200,
		`"discarded":7`, `"missing":[{"name":"n2","missing_for":"2.500s","reason":"no answer"}]`)
	same("resume", f.call("POST", calls+"ResumeGroup", `{"group":"g1","tenant":"shop"}`, bearer, asJSON), 200, `{"state":"open"}`)
	same("discard of an open group", f.call("POST", calls+"DiscardGroup", `{"group":"g1"}`, bearer, asJSON), 400, `"failed_precondition"`, "not stopped")
	same("no group", f.call("POST", calls+"StopGroup", `{}`, bearer, asJSON), 400, `"invalid_argument"`)

	a = f.call("POST", "/v1/groups/g%201/stop?tenant=shop", `{"refuse_intake":true}`, bearer, asJSON)
	same("native", a, 200, `"state":"stopping"`, told, `{"name":"n1","confirmed":true}`, `{"name":"n2","confirmed":false,"missing_for":2.5}`)
	if want := (service.GroupStop{Tenant: "shop", Group: "g 1", RefuseIntake: true, Author: "operator"}); f.node.stop != want {
		t.Errorf("asked for %+v", f.node.stop)
	}
	same("native discard", f.call("POST", "/v1/groups/g%201/discard", `{"tenant":"shop"}`, bearer), 200, `{"discarded":7}`)
	same("native discard without n2", f.call("POST", "/v1/groups/spread/discard", `{"tenant":"shop"}`, bearer), 200,
		`"discarded":7`, `"missing":[{"name":"n2","missing_for":2.5,"reason":"no answer"}]`)
	same("native resume", f.call("POST", "/v1/groups/g%201/resume", `{"tenant":"shop"}`, bearer), 200, `{"state":"open"}`)
	same("unknown key", f.call("POST", "/v1/groups/g1/stop", `{"hold":true}`, bearer), 400, "hold")
	same("no name", f.call("POST", "/v1/groups/%E3%81%82/stop", "", bearer), 400, "printable ASCII")
}

func TestJSONCallsUseTheContractsNames(t *testing.T) {
	f := mustFront(t, nil)
	f.node.events = someEvents(1)
	a := f.call("POST", calls+"GetCounters", `{"unit":"hour"}`, bearer, asJSON)
	if a.status != 200 || !strings.Contains(a.body, `"in_delivery":`) || strings.Contains(a.body, "inDelivery") {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := f.call("POST", calls+"SearchEvents", `{}`, bearer, asJSON); a.status != 200 || !strings.Contains(a.body, `"next_cursor":`) {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestConnectAndGRPCClients(t *testing.T) {
	f := mustFront(t, nil)
	f.node.events = someEvents(1)
	f.node.waiting = []service.Waiting{{Delivery: mail.Delivery{Message: mail.MessageID{Lineage: 1, Seq: 1}, To: "user@example.jp", Due: time.Unix(1e9, 0)},
		Receiver: "docomo", Binding: "block", Detail: "421 slow down", Until: time.Unix(1e9+60, 0)}}
	ctx := context.Background()
	token := connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			req.Header().Set("Authorization", "Bearer "+testToken)
			return next(ctx, req)
		}
	})
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	clients := map[string]adminpb.AdminServiceClient{
		"connect": adminpb.NewAdminServiceClient(http.DefaultClient, f.url, connect.WithInterceptors(token)),
		"grpc": adminpb.NewAdminServiceClient(&http.Client{Transport: &http.Transport{Protocols: &h2c}}, f.url,
			connect.WithGRPC(), connect.WithInterceptors(token)),
	}
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			st, err := c.GetStatus(ctx, &adminpb.GetStatusRequest{})
			if err != nil || st.Name != "n1" || st.Now == nil {
				t.Fatalf("status: %v %v", st, err)
			}
			tr, err := c.Trace(ctx, &adminpb.TraceRequest{Address: "user@example.jp"})
			if err != nil || len(tr.Events) != 1 || tr.Waiting[0].Binding != "block" || tr.Waiting[0].Until.Seconds != 1e9+60 {
				t.Fatalf("trace: %v %v", tr, err)
			}
			subject := &adminpb.Subject{Kind: &adminpb.Subject_Domain{Domain: "Example.JP"}}
			s, err := c.Suspend(ctx, &adminpb.SuspendRequest{Subject: subject, Reason: "asked"})
			if err != nil || s.Suspension.Subject.GetDomain() != "example.jp" || s.Suspension.Until != nil {
				t.Fatalf("suspend: %v %v", s, err)
			}
			if l, err := c.ListSuspensions(ctx, &adminpb.ListSuspensionsRequest{}); err != nil || len(l.Suspensions) != 1 {
				t.Fatalf("list: %v %v", l, err)
			}
			if _, err := c.Unsuspend(ctx, &adminpb.UnsuspendRequest{Subject: subject}); err != nil {
				t.Fatal(err)
			}
			codes := map[string]connect.Code{}
			_, err = c.Unsuspend(ctx, &adminpb.UnsuspendRequest{Subject: subject})
			codes["not suspended"] = connect.CodeOf(err)
			_, err = c.Unseal(ctx, &adminpb.UnsealRequest{Code: "wrong"})
			codes["wrong code"] = connect.CodeOf(err)
			f.node.tooSoon = true
			_, err = c.Unseal(ctx, &adminpb.UnsealRequest{Code: "right"})
			codes["too soon"] = connect.CodeOf(err)
			f.node.tooSoon = false
			_, err = c.Suspend(ctx, &adminpb.SuspendRequest{})
			codes["no subject"] = connect.CodeOf(err)
			_, err = c.Trace(ctx, &adminpb.TraceRequest{Message: "zz"})
			codes["bad id"] = connect.CodeOf(err)
			_, err = c.Takeover(ctx, &adminpb.TakeoverRequest{Node: "n2"})
			codes["unbuilt"] = connect.CodeOf(err)
			want := map[string]connect.Code{"not suspended": connect.CodeNotFound, "wrong code": connect.CodePermissionDenied,
				"too soon": connect.CodeResourceExhausted, "no subject": connect.CodeInvalidArgument,
				"bad id": connect.CodeInvalidArgument, "unbuilt": connect.CodeUnimplemented}
			for k, w := range want {
				if codes[k] != w {
					t.Errorf("%s: got %v, want %v", k, codes[k], w)
				}
			}
		})
	}
	if _, err := clients["connect"].Unseal(ctx, &adminpb.UnsealRequest{Code: "right"}); err != nil {
		t.Errorf("right code: %v", err)
	}
	if strings.Contains(f.log.String(), `"right"`) {
		t.Error("the recovery code stands in the log")
	}
	anonymous := adminpb.NewAdminServiceClient(http.DefaultClient, f.url)
	if _, err := anonymous.GetStatus(ctx, &adminpb.GetStatusRequest{}); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("without token: %v", err)
	}
}
