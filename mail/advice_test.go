package mail

import (
	"testing"
	"time"
)

func TestAdviceInWords(t *testing.T) {
	for _, c := range []struct {
		name string
		of   interface{ String() string }
		want string
	}{
		{"nothing", (*Then)(nil), ""},
		{"no jump", (*Jump)(nil), ""},
		{"at once", &Then{Scope: ScopeSource, For: 12 * time.Hour}, "suspend source 12h"},
		{"often", &Then{Scope: ScopeTenant, For: time.Hour, After: 3, Within: 10 * time.Minute}, "suspend tenant 1h after 3 answers within 10m"},
		{"to several", &Then{Scope: ScopeNetblock, For: time.Hour, Sources: 2, Within: time.Hour}, "suspend netblock 1h to 2 sources within 1h"},
		{"everywhere", &Then{Scope: ScopeSource, For: time.Hour, Everywhere: true}, "suspend source at every receiver 1h"},
		{"both", both{&Advice{Then: &Then{Scope: ScopeSource, For: time.Hour}, Jump: &Jump{Share: 5, For: time.Minute}}},
			"suspend source 1h; block source 1m from 5 %"},
		{"jump", &Jump{Share: 25, For: time.Hour}, "block source 1h from 25 %"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.of.String(); got != c.want {
				t.Errorf("%q; want %q", got, c.want)
			}
		})
	}
}

type both struct{ *Advice }

func (b both) String() string { return b.Beyond() }
