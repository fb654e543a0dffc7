package rpc

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// The functions below read what this package writes: one member reads another's answer. What cannot be read, because
// a newer version wrote it, is left at its zero value.

// EventOf reads what Event writes.
func EventOf(p *adminpb.Event) mail.Event {
	e := mail.Event{
		At: instant(p.At), Delivery: mail.Seq(p.Delivery), Tenant: p.Tenant, Group: p.Group, From: mail.Address(p.From),
		To: mail.Address(p.To), Domain: mail.Domain(p.Domain), Attempt: uint16(p.Attempt), Composition: p.Composition,
		User: p.User, HeaderFrom: p.HeaderFrom, HeaderID: p.HeaderId, Subject: p.Subject, APIData: p.ApiData,
		Size: int(p.Size), Cleaning: p.Cleaning, Due: instant(p.Due), Receiver: p.Receiver, Stage: stageOf(p.Stage),
		Status: mail.Status(p.Class), InDoubt: p.InDoubt, Detail: p.Detail, MX: p.Mx, TLS: p.Tls, Next: instant(p.Next), Sequence: p.Sequence,
		Taken: instant(p.Taken), Own: p.Own, Mail: string(p.Mail),
		Scope: scopeOf(p.Scope), Rule: p.Rule, Action: actionOf(p.Action), For: p.For.AsDuration(),
		Reply: smtp.Reply{Code: int(p.Code), Enhanced: enhancedOf(p.Enhanced), Text: p.Reply},
	}
	if v := p.Served; v != nil {
		e.Served = mail.Served{Delivered: v.Succeeded, Deferred: v.Deferred, Failed: v.Failed}
	}
	e.Kind, _ = service.ParseStatus(p.Status)
	e.Message, _ = mail.ParseMessageID(p.Message)
	e.Client, _ = netip.ParseAddr(p.Client)
	e.Source, _ = netip.ParseAddr(p.Source)
	e.Remote, _ = netip.ParseAddrPort(p.Remote)
	return e
}

func stageOf(name string) mail.Stage {
	for s := mail.StageNone; s <= mail.StageDot; s++ {
		if s.String() == name {
			return s
		}
	}
	return mail.StageNone
}

func enhancedOf(s string) (e smtp.EnhancedCode) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return e
	}
	for i, into := range []*uint16{&e.Class, &e.Subject, &e.Detail} {
		n, err := strconv.ParseUint(parts[i], 10, 16)
		if err != nil {
			return smtp.EnhancedCode{}
		}
		*into = uint16(n)
	}
	return e
}

// WaitingOf reads a delivery that waits.
func WaitingOf(p *adminpb.Waiting) service.Waiting {
	w := service.Waiting{Receiver: p.Receiver, Binding: p.Binding, Detail: p.Detail, Until: instant(p.Until),
		Delivery: mail.Delivery{Seq: mail.Seq(p.Delivery), To: mail.Address(p.To), Domain: mail.Domain(p.Domain),
			Due: instant(p.Due), Expires: instant(p.Expires), Attempts: uint16(p.Attempts)}}
	w.Delivery.Message, _ = mail.ParseMessageID(p.Message)
	return w
}

// CountersOf reads the twelve counters.
func CountersOf(p *adminpb.Counters) service.Counters {
	return service.Counters{
		service.Undelivered: p.GetUndelivered(), service.Retry: p.GetRetry(), service.InDelivery: p.GetInDelivery(),
		service.Succeeded: p.GetSucceeded(), service.Failed: p.GetFailed(), service.Temporary: p.GetTemporary(),
		service.DNSTemporary: p.GetDnsTemporary(), service.ConnectFailed: p.GetConnectFailed(),
		service.ConnectError: p.GetConnectError(), service.DNSFailed: p.GetDnsFailed(), service.Expired: p.GetExpired(),
		service.Interrupted: p.GetInterrupted(),
	}
}

// BucketOf reads a window of counters.
func BucketOf(p *adminpb.CounterBucket) service.CounterBucket {
	return service.CounterBucket{Start: instant(p.Start), Counters: CountersOf(p.Counters)}
}

// ReceiverOf reads what a source does at a receiver.
func ReceiverOf(p *adminpb.Receiver) service.Receiver {
	r := service.Receiver{Receiver: p.Receiver, State: p.State, Waiting: int64(p.Waiting), Connections: int(p.Connections),
		Limit: int(p.Limit), Delivered: p.Delivered, Deferred: p.Deferred, Failed: p.Failed, Until: instant(p.Until),
		Detail: p.Detail, Node: p.Node, Lane: p.Lane, WarmStep: int(p.WarmStep), WarmMost: int(p.WarmMost)}
	r.Source, _ = netip.ParseAddr(p.Source)
	return r
}

// GroupOf reads a delivery group.
func GroupOf(p *adminpb.Group) service.Group {
	return service.Group{Name: p.Name, Tenant: p.Tenant, State: p.State, Counters: CountersOf(p.Counters), LastSent: instant(p.LastSent)}
}

// SuspensionOf reads a suspension.
func SuspensionOf(p *adminpb.Suspension) (service.Suspension, error) {
	subject, err := subjectOf(p.Subject)
	return service.Suspension{Subject: subject, Reason: p.Reason, Author: p.Author, Since: instant(p.Since), Until: instant(p.Until),
		Rule: p.Rule, Node: p.Node}, err
}

// SubjectOf writes whom a suspension concerns.
func SubjectOf(s service.Subject) *adminpb.Subject {
	return suspension(service.Suspension{Subject: s}).Subject
}

// MemberOf reads a member.
func MemberOf(p *adminpb.Member) service.Member {
	m := service.Member{Name: p.Name, Address: p.Address, State: p.State, Leader: p.Leader, Role: p.Role, Voter: p.Voter, Alive: p.Alive,
		Applied: p.Applied, Waiting: p.Waiting, Version: p.Version, Seen: instant(p.Seen)}
	for _, l := range p.Lineages {
		id, err := strconv.ParseUint(l.Id, 16, 32)
		if err != nil {
			continue
		}
		out := service.Lineage{ID: mail.Lineage(id), Epoch: l.Epoch, Owner: l.Owner, Phase: l.Phase, Degraded: l.Degraded, Exposed: l.Exposed}
		for _, s := range l.Standbys {
			out.Standbys = append(out.Standbys, service.Standby{Name: s.Name, Acknowledging: s.Acknowledging, Behind: s.Behind})
		}
		m.Lineages = append(m.Lineages, out)
	}
	return m
}
