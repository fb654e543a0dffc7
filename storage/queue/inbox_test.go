package queue

import "testing"

func TestCrowded(t *testing.T) {
	for _, tt := range []struct {
		name            string
		requests, bytes int
		want            bool
	}{
		{"empty", 0, 0, false},
		{"a few", maxPending/2 - 1, maxPendBytes / 2, false},
		{"many requests", maxPending / 2, 0, true},
		{"many octets", 1, maxPendBytes/2 + 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Store{}
			s.inbox.waiting, s.inbox.bytes = make([]*request, tt.requests), tt.bytes
			if got := s.Crowded(); got != tt.want {
				t.Fatal(got)
			}
		})
	}
}
