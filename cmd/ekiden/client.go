package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/ekiden-mta/ekiden/admin"
	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/node"
)

// callTimeout bounds one call to a node; dialTimeout the connection to it.
const (
	callTimeout = 60 * time.Second
	dialTimeout = 5 * time.Second
	maxAnswer   = 64 << 20 // octets
)

// serverFlags says which node a command talks to, and as whom.
type serverFlags struct {
	Server string `help:"HTTP address of the node." default:"http://127.0.0.1:8025" env:"EKIDEN_SERVER" placeholder:"URL"`
	Token  string `help:"Admin token; on the node itself it is found in DATA/admin.token." env:"EKIDEN_TOKEN" placeholder:"TOKEN"`
	Data   string `help:"Data directory of the node, for its admin token." env:"EKIDEN_DATA" placeholder:"DIR"`
}

// client returns a caller of the node's RPC.
func (f serverFlags) client() (adminpb.AdminServiceClient, error) {
	u, err := url.Parse(f.Server)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, badUsage(fmt.Errorf("--server %q must be http://HOST:PORT or https://HOST:PORT", f.Server))
	}
	token, err := f.token(u.Hostname())
	if err != nil {
		return nil, err
	}
	bearer := connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			if token != "" {
				req.Header().Set("Authorization", "Bearer "+token)
			}
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			return next(ctx, req)
		}
	})
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		ForceAttemptHTTP2:   true,
	}
	return adminpb.NewAdminServiceClient(&http.Client{
		Transport: transport,
		// A redirect would carry the token to another place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, strings.TrimRight(f.Server, "/"), connect.WithInterceptors(bearer), connect.WithReadMaxBytes(maxAnswer)), nil
}

// token finds the admin token: as given, else in the data directory. Without --data a token on this machine's disk is
// used for a server on this machine only: it is nobody else's business.
func (f serverFlags) token(host string) (string, error) {
	if f.Token != "" {
		return f.Token, nil
	}
	dirs := []string{f.Data}
	if f.Data == "" {
		ip := net.ParseIP(host)
		if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return "", nil
		}
		dirs = []string{node.DefaultData, "/var/lib/ekiden"}
	}
	for _, dir := range dirs {
		raw, err := os.ReadFile(filepath.Join(dir, admin.TokenFile))
		switch {
		case err == nil:
			return strings.TrimSpace(string(raw)), nil
		case errors.Is(err, fs.ErrPermission):
			return "", refused(fmt.Errorf("the admin token cannot be read: %w", err))
		case f.Data != "":
			return "", badUsage(fmt.Errorf("--data: no admin token there: %w", err))
		}
	}
	return "", nil
}
