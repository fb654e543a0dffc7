// Package version tells what this build calls itself. It must never need the linker's help: whatever it knows is what
// the Go toolchain stamps into every binary.
package version

import "runtime/debug"

// Release is the version that this source belongs to.
const Release = "0.1.0"

// String is the version of the running binary:
//
//	0.1.0+da53d680f1aa         built from a git checkout, at that revision
//	0.1.0+da53d680f1aa.dirty   … with changes that are not committed
//	0.1.0                      built where git is missing or -buildvcs=false is set
//	1.2.3                      installed with go install …@v1.2.3
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Release
	}
	return of(info)
}

func of(info *debug.BuildInfo) string {
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = ".dirty"
		}
	}
	switch v := info.Main.Version; {
	case revision != "":
		return Release + "+" + revision + dirty
	case len(v) > 1 && v[0] == 'v': // the module's, which the module proxy vouches for; a checkout says "(devel)"
		return v[1:]
	}
	return Release
}
