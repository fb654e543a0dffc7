// Package rpc answers the operator's calls: it turns the messages of adminpb into questions to the node's services and
// their answers back.
//
// It must never decide anything and never authenticate: package admin lets only the operator through to it. Calls
// whose parts are not built yet say so.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// maxMessage is the largest request that is read, in octets; settings of many tenants are the largest there is.
const maxMessage = 8 << 20

// Config is what a handler needs.
type Config struct {
	Services service.Services
	Node     bool         // answers the other members: tell what they need to put answers together
	Clock    *clock.Clock // product clock
	Log      *slog.Logger
}

// New returns the path under which the service is to be mounted, and its handler.
func New(c Config) (string, http.Handler) {
	return adminpb.NewAdminServiceHandler(&handler{s: c.Services, node: c.Node, clock: c.Clock, log: c.Log},
		connect.WithReadMaxBytes(maxMessage),
		connect.WithCodec(jsonCodec{}),
		connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
			return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
				var resp connect.AnyResponse
				err := c.known(req.Any())
				if err == nil {
					resp, err = next(ctx, req)
				}
				if err != nil {
					err = rpcError(err)
					c.Log.Info("operator call refused", "procedure", req.Spec().Procedure, "error", err)
				}
				return resp, err
			}
		})))
}

// known refuses to read of a tenant that there is not: nothing found would pass for nothing having happened. The member that
// was asked has looked, the others answer it. Tokens of a tenant that is gone are listed all the same, to revoke them.
func (c Config) known(message any) error {
	if c.Node {
		return nil
	}
	switch req := message.(type) {
	case *adminpb.GetCountersRequest, *adminpb.GetQueuesRequest, *adminpb.SearchEventsRequest, *adminpb.ListSuppressionsRequest,
		*adminpb.ListReservationsRequest, *adminpb.GetStatisticsRequest, *adminpb.ListDeliveryStopsRequest:
		return service.Known(c.Services.Tenants, req.(interface{ GetTenant() string }).GetTenant())
	}
	return nil
}

type handler struct {
	adminpb.UnimplementedAdminServiceHandler
	s     service.Services
	node  bool
	clock *clock.Clock
	log   *slog.Logger
}

// rpcError gives an error of the services its code on the wire (contract: 3 = refused, and so on).
func rpcError(err error) error {
	var ce *connect.Error
	if errors.As(err, &ce) {
		return err
	}
	var wrong settings.Errors
	if errors.As(err, &wrong) {
		return settingsError(wrong)
	}
	code := connect.CodeInternal
	for _, m := range []struct {
		err  error
		code connect.Code
	}{
		{service.ErrWrongCode, connect.CodePermissionDenied},
		{service.ErrTooSoon, connect.CodeResourceExhausted},
		{service.ErrSealed, connect.CodeFailedPrecondition},
		{service.ErrUnready, connect.CodeFailedPrecondition},
		{service.ErrNotSealed, connect.CodeFailedPrecondition},
		{service.ErrNotFound, connect.CodeNotFound},
		{service.ErrInvalid, connect.CodeInvalidArgument},
		{service.ErrNotYet, connect.CodeUnimplemented},
		{service.ErrConflict, connect.CodeAborted},
		{service.ErrNoQuorum, connect.CodeFailedPrecondition}, // not "unavailable": that is a server nobody reaches
		{service.ErrRefused, connect.CodeFailedPrecondition},
		{context.DeadlineExceeded, connect.CodeDeadlineExceeded},
		{context.Canceled, connect.CodeCanceled},
	} {
		if errors.Is(err, m.err) {
			code = m.code
			break
		}
	}
	return connect.NewError(code, err)
}

// notYet answers a call whose part comes later.
func notYet(call, with string) error {
	return fmt.Errorf("%w: %s comes with %s", service.ErrNotYet, call, with)
}

// GetStatus says how the node is.
func (h *handler) GetStatus(context.Context, *adminpb.GetStatusRequest) (*adminpb.GetStatusResponse, error) {
	if h.s.Node == nil {
		return nil, notYet("GetStatus", "a later release")
	}
	s := h.s.Node.Status()
	r := &adminpb.GetStatusResponse{Name: s.Name, Version: s.Version, State: s.State, Started: stamp(s.Started),
		Smtp: s.SMTP, Http: s.HTTP, Data: s.Data, Helo: s.Helo, Now: stamp(h.clock.Now())}
	for _, why := range s.Reasons {
		r.Reasons = append(r.Reasons, &adminpb.Reason{Code: why.Code, Detail: why.Detail})
	}
	for _, what := range s.Notices {
		r.Notices = append(r.Notices, &adminpb.Reason{Code: what.Code, Detail: what.Detail})
	}
	c := h.s.Node.Conservation()
	r.Conservation = &adminpb.Conservation{Books: c.Books, Gap: c.Gap, LogGap: c.LogGap, Overdue: uint64(c.Overdue)}
	for _, o := range c.Oldest {
		r.Conservation.Messages = append(r.Conservation.Messages, o.Message.String())
	}
	return r, nil
}

// maxCode bounds a recovery code in octets: 8 groups of four and their separators, with room for blanks.
const maxCode = 256

// Unseal gives the node its keys. The code never reaches the log.
func (h *handler) Unseal(ctx context.Context, req *adminpb.UnsealRequest) (*adminpb.UnsealResponse, error) {
	if h.s.Node == nil {
		return nil, notYet("Unseal", "a later release")
	}
	if req.Code == "" || len(req.Code) > maxCode {
		return nil, fmt.Errorf("%w: a recovery code is needed", service.ErrInvalid)
	}
	if err := h.s.Node.Unseal(ctx, req.Code); err != nil {
		return nil, err
	}
	return &adminpb.UnsealResponse{State: h.s.Node.Status().State}, nil
}

// absent takes the nodes that did not answer out of err; what is left is real trouble.
func absent(err error) ([]*adminpb.Absent, error) {
	var partial *service.Partial
	if !errors.As(err, &partial) {
		return nil, err
	}
	return absents(partial.Missing), nil
}

func absents(list []service.Absent) []*adminpb.Absent {
	out := make([]*adminpb.Absent, len(list))
	for i, a := range list {
		out[i] = &adminpb.Absent{Name: a.Name, Reason: clean(a.Reason)}
		if a.For >= 0 {
			out[i].MissingFor = durationpb.New(a.For)
		}
	}
	return out
}
