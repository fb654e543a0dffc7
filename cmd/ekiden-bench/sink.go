package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/sink"
)

type sinkCommand struct {
	Listen   []string      `help:"Addresses to listen on; port 0 takes a free one." required:"" placeholder:"ADDR"`
	Model    string        `help:"Receivers to play: a YAML file, or 'builtin' for the carriers and providers built in. Without it everything is accepted." placeholder:"FILE"`
	Record   string        `help:"File that takes a JSON line per message." placeholder:"FILE"`
	Latency  time.Duration `help:"Wait before every burst of replies." default:"0s"`
	Metrics  string        `help:"Serve GET /counters and POST /reset here." placeholder:"ADDR"`
	Chunking bool          `help:"Offer CHUNKING where the model does not say."`
	StartTLS bool          `help:"Offer STARTTLS where the model does not say." name:"starttls"`
	Seed     uint64        `help:"Seed of the dice." default:"1"`
	JSON     bool          `help:"Print the counters as JSON at the end." name:"json"`
}

// Help is the example shown with --help.
func (sinkCommand) Help() string {
	return `Example:
  ekiden-bench sink --listen 127.0.0.1:2526 --model builtin --record record.jsonl --metrics 127.0.0.1:2580

A model file:
  receivers:
    - name: docomo
      base: docomo                  # start from a built-in one
      listen: ["127.0.0.1:2527"]    # and/or domains: [docomo.ne.jp, "*.example", "*"]
      rules:
        - {stage: rcpt, probability: 0.01, do: reply, reply: "451 4.3.0 later"}
        - {stage: dot, local: slow, do: delay, delay: 5s}
        - {stage: connect, source: 127.0.0.12, do: reset}   # an address or a network
      quotas:
        - {of: connections, limit: 10, then: reply, reply: "421 too many connections"}
        - {of: unknown_ratio, limit: 0.2, after: 100, then: reset, for: 60s}
  stages: connect greeting ehlo mail rcpt data dot; do: reply reset close hang delay
  quotas of: connections per_minute per_connection unknown_ratio; then: reply reset close
Recipients every receiver understands: unknown-x@ full-x@ filtered-x@ deferN-x@ (451 N times) reset-x@ close-x@ hang-x@`
}

func (c *sinkCommand) Run(ctx context.Context, io *streams) error {
	cfg := sink.Config{
		Listen: c.Listen, Record: c.Record, Latency: c.Latency, Chunking: c.Chunking, StartTLS: c.StartTLS, Seed: c.Seed,
		Log: slog.New(slog.NewJSONHandler(io.err, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	var err error
	switch c.Model {
	case "":
	case "builtin":
		cfg.Model, err = sink.Builtin()
	default:
		cfg.Model, err = sink.Load(c.Model)
	}
	if err != nil {
		return err
	}
	s, err := sink.Start(cfg)
	if err != nil {
		return err
	}
	metrics := "none"
	if c.Metrics != "" {
		if metrics, err = s.Metrics(ctx, c.Metrics); err != nil {
			_ = s.Stop()
			return err
		}
	}
	fmt.Fprintf(io.out, "sink ready smtp=%s metrics=%s\n", strings.Join(s.Addrs(), ","), metrics)
	<-ctx.Done()
	err = s.Stop()
	n := s.Counters()
	if c.JSON {
		if jerr := io.json(n); jerr != nil {
			return jerr
		}
		return err
	}
	fmt.Fprintf(io.out, "sink messages=%d bytes=%d refused=%d max_open=%d violations=%d\n", n.Messages, n.Bytes, n.Refused, n.MaxOpen, n.Violated())
	return err
}
