package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/admin/service"
)

// TestWhichTenantIsMeant: a tenant that is not named is the only one, or the one called default; one that there is not is
// refused with the names of those there are.
func TestWhichTenantIsMeant(t *testing.T) {
	for _, tt := range []struct{ name, asked, names, want, refused string }{
		{"named", "shop", "news shop", "shop", ""},
		{"the only one", "", "shop", "shop", ""},
		{"default among others", "", "shop default", "default", ""},
		{"several", "", "shop news", "", "say which tenant is meant (tenant, --tenant): one of news, shop"},
		{"a typo", "shpo", "shop news", "", `there is no tenant "shpo"; there are: news, shop`},
		{"default that is not there", "default", "shop", "", `there is no tenant "default"; there are: shop`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := chooseTenant(tt.asked, strings.Fields(tt.names))
			if got != tt.want || (err == nil) != (tt.refused == "") {
				t.Fatalf("got %q, %v", got, err)
			}
			if err != nil && (!errors.Is(err, service.ErrInvalid) || !strings.HasSuffix(err.Error(), tt.refused)) {
				t.Errorf("refused with %v, want …%s", err, tt.refused)
			}
		})
	}
}
