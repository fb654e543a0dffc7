package settings

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
)

// traffic makes the speed filters of all tenants and all speed caps ready for use; nil where there are none.
func traffic(s *Settings) (*filter.Traffic, error) {
	var x filter.Traffic
	any := false
	bound := func(tenant, composition string, c *SpeedCap) {
		if c.Messages > 0 {
			x.AddCap(tenant, composition, c.Messages, time.Duration(c.Per))
			any = true
		}
	}
	bound("", "", &s.SpeedCap)
	for i := range s.Tenants {
		t := &s.Tenants[i]
		bound(t.Name, "", &t.SpeedCap)
		for j := range t.Compositions {
			bound(t.Name, t.Compositions[j].Name, &t.Compositions[j].SpeedCap)
		}
		for j := range t.Speed {
			f, err := speed(t.Name, &t.Speed[j])
			if err != nil {
				return nil, err
			}
			x.AddSpeed(f)
			any = true
		}
	}
	if !any {
		return nil, nil
	}
	return &x, nil
}

func speed(tenant string, s *Speed) (filter.Speed, error) {
	f := filter.Speed{Tenant: tenant, Name: s.Name, HostName: s.HostName, Connections: s.Connections,
		Interval: time.Duration(s.Interval), Fixed: s.Fixed, Sources: s.SourceIPs}
	for _, p := range s.Patterns {
		re, err := CompilePattern(p)
		if err != nil {
			return f, err
		}
		f.Patterns = append(f.Patterns, re)
	}
	if s.Route != "" {
		h, err := parseHost(s.Route)
		if err != nil {
			return f, err
		}
		f.Route = mail.Route{Hosts: []mail.Host{h}, Static: true}
	}
	return f, nil
}

// parseHost reads host:port, address:port or [address]:port.
func parseHost(text string) (mail.Host, error) {
	wrong := fmt.Errorf("%q must be host:port", text)
	i := strings.LastIndexByte(text, ':')
	if i <= 0 {
		return mail.Host{}, wrong
	}
	n, err := strconv.ParseUint(text[i+1:], 10, 16)
	if err != nil || n == 0 {
		return mail.Host{}, wrong
	}
	h, ok := mail.ParseHost(strings.TrimSuffix(strings.TrimPrefix(text[:i], "["), "]"), uint16(n))
	if !ok {
		return mail.Host{}, wrong
	}
	return h, nil
}
