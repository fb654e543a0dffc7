package version

import (
	"runtime/debug"
	"testing"
)

func TestOf(t *testing.T) {
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "da53d680f1aa9c66ee0c2cf2cd7f36c09cdd5f3b"}
	modified := func(v string) debug.BuildSetting { return debug.BuildSetting{Key: "vcs.modified", Value: v} }
	tests := []struct {
		name, module string
		settings     []debug.BuildSetting
		want         string
	}{
		{"checkout", "v0.0.0-20261122120400-da53d680f1aa", []debug.BuildSetting{revision, modified("false")}, Release + "+da53d680f1aa"},
		{"changed checkout", "v0.0.0-20261122120400-da53d680f1aa+dirty", []debug.BuildSetting{revision, modified("true")}, Release + "+da53d680f1aa.dirty"},
		{"without git", "(devel)", nil, Release},
		{"no module", "", nil, Release},
		{"go install of a tag", "v1.2.3", nil, "1.2.3"},
		{"short revision", "", []debug.BuildSetting{{Key: "vcs.revision", Value: "17"}}, Release + "+17"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := of(&debug.BuildInfo{Main: debug.Module{Version: tt.module}, Settings: tt.settings}); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
