package rpc

import (
	"context"
	"fmt"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// GetCounters returns the twelve counters in one of the three windows.
func (h *handler) GetCounters(ctx context.Context, req *adminpb.GetCountersRequest) (*adminpb.GetCountersResponse, error) {
	if h.s.Numbers == nil {
		return nil, notYet("GetCounters", "a later release")
	}
	unit, err := service.ParseUnit(req.Unit)
	if err != nil {
		return nil, err
	}
	q := service.CounterQuery{Unit: unit, Group: req.Group, Tenant: req.Tenant}
	if req.Domain != "" {
		if q.Domain, err = mail.ParseDomain(req.Domain); err != nil {
			return nil, fmt.Errorf("%w: domain: %w", service.ErrInvalid, err)
		}
	}
	buckets, err := h.s.Numbers.Counters(ctx, q)
	missing, err := absent(err)
	if err != nil {
		return nil, err
	}
	r := &adminpb.GetCountersResponse{Missing: missing}
	for _, b := range buckets {
		r.Buckets = append(r.Buckets, &adminpb.CounterBucket{Start: stamp(b.Start), Counters: counters(b.Counters)})
	}
	return r, nil
}

// GetQueues returns the carrier view and what the sources do.
func (h *handler) GetQueues(ctx context.Context, req *adminpb.GetQueuesRequest) (*adminpb.GetQueuesResponse, error) {
	if h.s.Numbers == nil {
		return nil, notYet("GetQueues", "a later release")
	}
	queues, err := h.s.Numbers.Queues(ctx, req.Tenant)
	missing, err := absent(err)
	if err != nil {
		return nil, err
	}
	receivers, err := h.s.Numbers.Receivers(ctx)
	if _, err = absent(err); err != nil { // the nodes are those that Queues has missed
		return nil, err
	}
	r := &adminpb.GetQueuesResponse{Missing: missing}
	for _, q := range queues {
		r.Queues = append(r.Queues, &adminpb.Queue{Name: q.Name, Waiting: uint32(q.Waiting),
			Slowed: uint32(q.Slowed), Urgent: uint32(q.Urgent), Warming: uint32(q.Warming)})
	}
	for _, v := range receivers {
		p := &adminpb.Receiver{Receiver: v.Receiver, State: v.State, Waiting: uint32(v.Waiting), Connections: int32(v.Connections),
			Limit: int32(v.Limit), Delivered: v.Delivered, Deferred: v.Deferred, Failed: v.Failed,
			Until: stamp(v.Until), Detail: clean(v.Detail), Node: v.Node,
			Lane: v.Lane, WarmStep: int32(v.WarmStep), WarmMost: int32(v.WarmMost)}
		if v.Source.IsValid() {
			p.Source = v.Source.String()
		}
		r.Receivers = append(r.Receivers, p)
	}
	return r, nil
}

func counters(c service.Counters) *adminpb.Counters {
	return &adminpb.Counters{
		Undelivered: c[service.Undelivered], Retry: c[service.Retry], InDelivery: c[service.InDelivery],
		Succeeded: c[service.Succeeded], Failed: c[service.Failed], Temporary: c[service.Temporary],
		DnsTemporary: c[service.DNSTemporary], ConnectFailed: c[service.ConnectFailed], ConnectError: c[service.ConnectError],
		DnsFailed: c[service.DNSFailed], Expired: c[service.Expired], Interrupted: c[service.Interrupted],
	}
}

// clean makes foreign text valid UTF-8: a protocol buffer cannot carry anything else, and one odd reply must not make
// a whole page unreadable. Control characters stay; whoever shows them escapes them.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
