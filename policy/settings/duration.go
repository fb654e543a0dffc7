package settings

import (
	"fmt"
	"time"
)

// Duration is a time.Duration written as Go writes it ("1m30s", "100ms").
type Duration time.Duration

// String writes d as Go does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText is the form in YAML and JSON.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText writes, and "0".
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration: write it like 100ms, 1m30s or 2h", text)
	}
	*d = Duration(v)
	return nil
}
