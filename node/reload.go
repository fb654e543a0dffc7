package node

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/ekiden-mta/ekiden/delivery"
	"github.com/ekiden-mta/ekiden/mail"
)

// routing is where mail goes by the node file in force and the DNS. Safe for concurrent use.
type routing struct {
	now atomic.Pointer[delivery.Resolver]
}

// Route implements protocol.Resolver.
func (r *routing) Route(ctx context.Context, d mail.Domain) (mail.Route, mail.Outcome) {
	return r.now.Load().Route(ctx, d)
}

// use puts other routes in force, and another port for hosts that the DNS names.
func (r *routing) use(routes *delivery.Routes, port int) {
	next := *r.now.Load()
	next.Routes, next.Port = routes, uint16(port)
	r.now.Store(&next)
}

// live are the keys of a node file that Reload, or its caller, puts in force; all others count from the next start on.
var live = [...]string{"delivery.routes", "delivery.port", "log.level"}

// Reload rereads certificates and puts in force what next, a node file that was validated, says of routes and of the port of
// receivers; the caller sees to the level of its log. It returns the keys that differ from those the node runs with and wait
// for a restart. What cannot be read keeps its old state and is reported. Settings are the members', and change by "ekiden
// apply".
func (n *Node) Reload(next Config) (waiting []string, err error) {
	if err = n.loadCertificates(); n.wire != nil {
		err = errors.Join(err, n.wire.Reload())
	}
	routes, wrong := next.Delivery.routes()
	if wrong != nil {
		return nil, errors.Join(err, fmt.Errorf("node: delivery.%w", wrong))
	}
	n.mu.Lock()
	n.routed.Store(&next.Delivery)
	e := n.engine.Load()
	n.mu.Unlock()
	if e != nil {
		e.resolver.use(routes, next.Delivery.Port)
		e.actors.Destinations().Changed()
	}
	if !n.inCluster() {
		next.Node.Name = n.cfg.Node.Name // see keepName
	}
	return slices.DeleteFunc(differing(n.cfg, next), func(key string) bool { return slices.Contains(live[:], key) }), err
}

// deliveryConfig is what the node file in force says of routes; all else of it counts from a start on.
func (n *Node) deliveryConfig() *DeliveryConfig {
	if d := n.routed.Load(); d != nil {
		return d
	}
	return &n.cfg.Delivery
}

// differing names the keys whose values differ, as the node file calls them: "smtp.listeners", "settings".
func differing(a, b Config) (keys []string) {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		section := va.Type().Field(i).Tag.Get("yaml")
		switch {
		case section == "":
		case va.Field(i).Kind() != reflect.Struct:
			if !reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
				keys = append(keys, section)
			}
		default:
			for j := range va.Field(i).NumField() {
				if !reflect.DeepEqual(va.Field(i).Field(j).Interface(), vb.Field(i).Field(j).Interface()) {
					keys = append(keys, section+"."+va.Field(i).Type().Field(j).Tag.Get("yaml"))
				}
			}
		}
	}
	return keys
}
