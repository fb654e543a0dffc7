package cluster

import (
	"context"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLog gives raft a logger that writes to slog. Everything is one level quieter than raft thinks: its errors are
// warnings to an operator (it goes on, and what matters to him is said by this package), the rest is for debugging.
type raftLog struct {
	log  *slog.Logger
	args []any
	name string
}

func (l *raftLog) put(level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	if level >= hclog.Error {
		to = slog.LevelWarn
	}
	if !l.log.Enabled(context.Background(), to) {
		return
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok {
			args[i] = f[0]
		}
	}
	l.log.Log(context.Background(), to, "raft: "+msg, args...)
}

func (l *raftLog) Log(level hclog.Level, msg string, args ...any) { l.put(level, msg, args...) }
func (l *raftLog) Trace(msg string, args ...any)                  {}
func (l *raftLog) Debug(msg string, args ...any)                  { l.put(hclog.Debug, msg, args...) }
func (l *raftLog) Info(msg string, args ...any)                   { l.put(hclog.Info, msg, args...) }
func (l *raftLog) Warn(msg string, args ...any)                   { l.put(hclog.Warn, msg, args...) }
func (l *raftLog) Error(msg string, args ...any)                  { l.put(hclog.Error, msg, args...) }
func (l *raftLog) IsTrace() bool                                  { return false }
func (l *raftLog) IsDebug() bool                                  { return l.log.Enabled(context.Background(), slog.LevelDebug) }
func (l *raftLog) IsInfo() bool                                   { return l.IsDebug() }
func (l *raftLog) IsWarn() bool                                   { return l.IsDebug() }
func (l *raftLog) IsError() bool                                  { return true }
func (l *raftLog) ImpliedArgs() []any                             { return l.args }
func (l *raftLog) Name() string                                   { return l.name }
func (l *raftLog) SetLevel(hclog.Level)                           {}
func (l *raftLog) GetLevel() hclog.Level                          { return hclog.Debug }
func (l *raftLog) ResetNamed(name string) hclog.Logger            { return l.Named(name) }
func (l *raftLog) Named(name string) hclog.Logger {
	return &raftLog{log: l.log, args: l.args, name: name}
}

func (l *raftLog) With(args ...any) hclog.Logger {
	return &raftLog{log: l.log.With(args...), args: append(l.args[:len(l.args):len(l.args)], args...), name: l.name}
}

func (l *raftLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(nil), "", 0)
}

func (l *raftLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lineWriter{l} }

// lineWriter logs each write as a line.
type lineWriter struct{ log *raftLog }

func (w lineWriter) Write(p []byte) (int, error) {
	w.log.Debug(string(p))
	return len(p), nil
}
