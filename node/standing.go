package node

import (
	"fmt"

	"github.com/ekiden-mta/ekiden/delivery/dns"
	"github.com/ekiden-mta/ekiden/delivery/standing"
	"github.com/ekiden-mta/ekiden/policy/alignment"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// resolver asks the name servers of the node file; the rest stands in cfg.
func (c Config) resolver(cfg dns.Config) (*dns.Resolver, error) {
	cfg.Timeout = c.DNS.Timeout
	for _, s := range c.DNS.Servers {
		cfg.Servers = append(cfg.Servers, s.String())
	}
	r, err := dns.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("node: assemble resolver: %w", err)
	}
	return r, nil
}

// Names returns a resolver of its own for whoever looks at senders: its questions are in no domain log.
func (c Config) Names() (*dns.Resolver, error) { return c.resolver(dns.Config{Entries: 10_000}) }

func (n *Node) assembleStanding(e *engine) error {
	names, err := n.cfg.Names()
	if err != nil {
		return err
	}
	e.senders = standing.New(names)
	return nil
}

// standsAs tells how the sender of a message stands (requirement N19), by the addresses, the EHLO name and the envelope
// sender that it leaves with.
func (n *Node) standsAs(b *standing.Book) func(*settings.Member, alignment.Identity) []alignment.Finding {
	return func(m *settings.Member, id alignment.Identity) []alignment.Finding {
		id.Helo, id.Sources = n.cfg.Helo(), n.book.sources(m.Composition.Pool)
		if id.Envelope != "" {
			if d := returns(m); d != "" {
				id.Envelope = d
			}
		}
		return b.Judge(id)
	}
}
