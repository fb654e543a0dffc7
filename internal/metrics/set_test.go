package metrics

import (
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

func mustScrape(t *testing.T, s *Set) string {
	t.Helper()
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(rec.Result().Body)
	if err != nil || rec.Code != 200 {
		t.Fatalf("status %d, %v", rec.Code, err)
	}
	return string(body)
}

func mustShow(t *testing.T, page string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(page, "\n"+line+"\n") {
			t.Errorf("not on the page: %s", line)
		}
	}
}

func TestTheContractsNames(t *testing.T) {
	s := New("v1.2.3")
	s.Accepted.Add(3)
	s.Outcomes.With("delivered", "docomo").Inc()
	s.InDoubt.Inc()
	s.DuplicatesBound.From(func() float64 { return 7 })
	s.QueueDeliveries.From(func(report func(string, float64)) {
		report("waiting", 5)
		report("retry", 2)
	})
	s.Connections.With("google", "127.0.0.2").Add(4)
	blocked := s.Blocks.With("au", "127.0.0.3")
	blocked.Inc()
	s.SlotsGranted.Inc()
	s.SlotsRefused.With("pace").Inc()
	s.StoreCommitSeconds.Observe(0.0004)
	s.ShipSeconds.Observe(0.02)
	s.SuppressionLookups.Inc()
	s.RaftApplyLagSeconds.From(func() float64 { return 0 })
	s.Sealed.From(func() float64 { return 1 })
	s.ConservationGap.From(func() float64 { return 0 })
	s.ConservationLogGap.From(func() float64 { return 0 })
	s.OverdueDeliveries.From(func() float64 { return 0 })
	s.ActorRestarts.With("destination").Inc()
	s.SMTPConnections.With("accepted").Inc()
	s.SMTPSessions.With("relay").Inc()
	s.SMTPRefusals.With("size").Inc()
	s.DNSLookups.With("ok").Inc()
	s.WebhookPosts.With("posted").Inc()
	s.WebhookEvents.With("posted").Add(100)
	s.WebhookLagSeconds.From(func() float64 { return 2 })
	s.StoreBytes.From(func(tell func(string, float64)) { tell("free", 5e9) })
	s.DamagedRecords.From(func() float64 { return 0 })
	mustShow(t, mustScrape(t, s),
		`ekiden_store_bytes{kind="free"} 5e+09`,
		"ekiden_damaged_records 0",
		"ekiden_accepted_total 3",
		`ekiden_outcomes_total{outcome="delivered",receiver="docomo"} 1`,
		"ekiden_in_doubt_total 1",
		"ekiden_duplicates_bound 7",
		`ekiden_queue_deliveries{state="waiting"} 5`,
		`ekiden_queue_deliveries{state="retry"} 2`,
		`ekiden_connections{receiver="google",source="127.0.0.2"} 4`,
		`ekiden_blocks{receiver="au",source="127.0.0.3"} 1`,
		"ekiden_slots_granted_total 1",
		`ekiden_slots_refused_total{reason="pace"} 1`,
		`ekiden_store_commit_seconds_bucket{le="0.0005"} 1`,
		"ekiden_store_commit_seconds_count 1",
		"ekiden_ship_seconds_count 1",
		"ekiden_suppression_lookups_total 1",
		"ekiden_raft_apply_lag_seconds 0",
		"ekiden_sealed 1",
		"ekiden_conservation_gap 0",
		"ekiden_conservation_log_gap 0",
		"ekiden_overdue_deliveries 0",
		`ekiden_actor_restarts_total{actor="destination"} 1`,
		`ekiden_smtp_connections_total{result="accepted"} 1`,
		`ekiden_smtp_sessions{role="relay"} 1`,
		`ekiden_smtp_refusals_total{reason="size"} 1`,
		`ekiden_dns_lookups_total{result="ok"} 1`,
		`ekiden_webhook_posts_total{result="posted"} 1`,
		`ekiden_webhook_events_total{result="posted"} 100`,
		"ekiden_webhook_lag_seconds 2",
		`ekiden_build_info{version="v1.2.3"} 1`,
	)
	blocked.Dec()
	mustShow(t, mustScrape(t, s), `ekiden_blocks{receiver="au",source="127.0.0.3"} 0`)
}

func TestReadingsHaveNoSeriesBeforeTheirSource(t *testing.T) {
	page := mustScrape(t, New("dev"))
	for _, name := range []string{"ekiden_sealed", "ekiden_conservation_gap", "ekiden_queue_deliveries"} {
		if strings.Contains(page, name) {
			t.Errorf("%s shows a value nobody gave", name)
		}
	}
	mustShow(t, page, "ekiden_accepted_total 0")
}

func TestLabelsAreBounded(t *testing.T) {
	s := New("dev")
	s.Connections.With("docomo", "127.0.0.2").Inc()
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				s.Outcomes.With("delivered", fmt.Sprintf("mx:mx%d.example", (i*7+worker)%1000)).Inc()
			}
		})
	}
	wg.Wait()
	page := mustScrape(t, s)
	series := strings.Count(page, "\nekiden_outcomes_total{")
	// One name of the bound went to docomo, and Other comes on top.
	if series != MaxReceivers-1+1 {
		t.Errorf("%d series of outcomes for 1000 receivers", series)
	}
	if !strings.Contains(page, `receiver="other"`) {
		t.Error("nothing is counted under other")
	}
	// Who has a name keeps it, in every metric.
	s.Outcomes.With("failed", "docomo").Inc()
	s.Connections.With("late.example", "127.0.0.2").Inc()
	mustShow(t, mustScrape(t, s),
		`ekiden_outcomes_total{outcome="failed",receiver="docomo"} 1`,
		`ekiden_connections{receiver="other",source="127.0.0.2"} 1`)

	s.QueueDeliveries.From(func(report func(string, float64)) {
		for i := range 2 * maxWords {
			report(fmt.Sprint("state", i), 1)
		}
	})
	mustShow(t, mustScrape(t, s), fmt.Sprintf(`ekiden_queue_deliveries{state="other"} %d`, maxWords))
}

func TestForeignNamesDoNotPanic(t *testing.T) {
	s := New("dev")
	s.Outcomes.With("failed", "mx:\xff\xfe").Inc()
	s.Outcomes.With("failed", strings.Repeat("a", maxName+1)).Inc()
	s.Outcomes.With("failed", "a\"b\n").Inc()
	mustShow(t, mustScrape(t, s),
		`ekiden_outcomes_total{outcome="failed",receiver="other"} 2`,
		`ekiden_outcomes_total{outcome="failed",receiver="a\"b\n"} 1`)
}

func TestHotPathAllocatesNothing(t *testing.T) {
	s := New("dev")
	kept := s.Outcomes.With("delivered", "docomo")
	if n := testing.AllocsPerRun(100, func() {
		kept.Inc()
		s.Accepted.Inc()
		s.StoreCommitSeconds.Observe(0.001)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkKeptCounter(b *testing.B) {
	c := New("dev").Outcomes.With("delivered", "docomo")
	for b.Loop() {
		c.Inc()
	}
}

func BenchmarkLookedUpCounter(b *testing.B) {
	s := New("dev")
	for b.Loop() {
		s.Outcomes.With("delivered", "docomo").Inc()
	}
}

func BenchmarkHistogram(b *testing.B) {
	s := New("dev")
	for b.Loop() {
		s.StoreCommitSeconds.Observe(0.001)
	}
}
