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

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// maxMessage is the largest request that is read, in octets; settings of many tenants are the largest there is.
const maxMessage = 8 << 20

// Config is what a handler needs.
type Config struct {
	Services service.Services
	Clock    *clock.Clock // product clock
	Log      *slog.Logger
}

// New returns the path under which the service is to be mounted, and its handler.
func New(c Config) (string, http.Handler) {
	return adminpb.NewAdminServiceHandler(&handler{s: c.Services, clock: c.Clock, log: c.Log},
		connect.WithReadMaxBytes(maxMessage),
		connect.WithCodec(jsonCodec{}),
		connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
			return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
				resp, err := next(ctx, req)
				if err != nil {
					err = rpcError(err)
					c.Log.Info("operator call refused", "procedure", req.Spec().Procedure, "error", err)
				}
				return resp, err
			}
		})))
}

type handler struct {
	adminpb.UnimplementedAdminServiceHandler
	s     service.Services
	clock *clock.Clock
	log   *slog.Logger
}

// rpcError gives an error of the services its code on the wire (contract: 3 = refused, and so on).
func rpcError(err error) error {
	var ce *connect.Error
	if errors.As(err, &ce) {
		return err
	}
	code := connect.CodeInternal
	for _, m := range []struct {
		err  error
		code connect.Code
	}{
		{service.ErrWrongCode, connect.CodePermissionDenied},
		{service.ErrTooSoon, connect.CodeResourceExhausted},
		{service.ErrSealed, connect.CodeFailedPrecondition},
		{service.ErrNotSealed, connect.CodeFailedPrecondition},
		{service.ErrNotFound, connect.CodeNotFound},
		{service.ErrInvalid, connect.CodeInvalidArgument},
		{service.ErrNotYet, connect.CodeUnimplemented},
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
		Smtp: s.SMTP, Http: s.HTTP, Data: s.Data, Now: stamp(h.clock.Now())}
	for _, why := range s.Reasons {
		r.Reasons = append(r.Reasons, &adminpb.Reason{Code: why.Code, Detail: why.Detail})
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

// Drain stops taking mail.
func (h *handler) Drain(ctx context.Context, _ *adminpb.DrainRequest) (*adminpb.DrainResponse, error) {
	if h.s.Node == nil {
		return nil, notYet("Drain", "the cluster")
	}
	if err := h.s.Node.Drain(ctx); err != nil {
		return nil, err
	}
	return &adminpb.DrainResponse{State: h.s.Node.Status().State}, nil
}

// GetSettings returns the settings in force.
func (h *handler) GetSettings(ctx context.Context, _ *adminpb.GetSettingsRequest) (*adminpb.GetSettingsResponse, error) {
	if h.s.Settings == nil {
		return nil, notYet("GetSettings", "a later release")
	}
	yaml, revision, err := h.s.Settings.Settings(ctx)
	if err != nil {
		return nil, err
	}
	return &adminpb.GetSettingsResponse{Yaml: string(yaml), Revision: revision}, nil
}

// ApplySettings is refused until the settings are replicated.
func (h *handler) ApplySettings(context.Context, *adminpb.ApplySettingsRequest) (*adminpb.ApplySettingsResponse, error) {
	return nil, notYet("ApplySettings", "the replicated ledger; until then the node reads its settings file at start and on SIGHUP")
}

// ListMembers returns the members of the cluster: this node.
func (h *handler) ListMembers(context.Context, *adminpb.ListMembersRequest) (*adminpb.ListMembersResponse, error) {
	if h.s.Node == nil {
		return nil, notYet("ListMembers", "the cluster")
	}
	s := h.s.Node.Status()
	return &adminpb.ListMembersResponse{Members: []*adminpb.Member{{Name: s.Name, Address: s.HTTP, State: s.State, Leader: true}}}, nil
}

// Takeover is refused: one node alone has nobody's queue to take.
func (h *handler) Takeover(context.Context, *adminpb.TakeoverRequest) (*adminpb.TakeoverResponse, error) {
	return nil, notYet("Takeover", "the cluster")
}
