package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Every command survives its encoding, with every field set.
func TestCommandsRoundTrip(t *testing.T) {
	for code := commandCode(1); ; code++ {
		empty, name := newCommand(code)
		if empty == nil {
			if code != codeRelease+1 {
				t.Errorf("command %d is not known", code)
			}
			break
		}
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			full, _ := newCommand(code)
			n := 0
			set(reflect.ValueOf(full).Elem(), &n)
			for _, cmd := range []Command{empty, full} {
				data, err := Encode(cmd)
				if err != nil {
					t.Fatal(err)
				}
				got, err := Decode(data)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(cmd, got, cmp.AllowUnexported()); diff != "" {
					t.Error(diff)
				}
				for cut := range data {
					if _, err := Decode(data[:cut]); err == nil {
						t.Errorf("cut at %d decodes", cut)
					}
				}
				if _, err := Decode(append(data, 0)); !errors.Is(err, ErrDamaged) {
					t.Errorf("something left over: %v", err)
				}
			}
		})
	}
}

// set gives every field below v a value of its own.
func set(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeOf(moment(0)) {
			v.Set(reflect.ValueOf(moment(*n)))
			return
		}
		for i := range v.NumField() {
			set(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		set(v.Index(0), n)
		set(v.Index(1), n)
	case reflect.String:
		v.SetString(fmt.Sprint("s", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint64, reflect.Uint32, reflect.Uint8:
		v.SetUint(uint64(*n))
	default:
		panic("a field of kind " + v.Kind().String())
	}
}

func TestResultRoundTrip(t *testing.T) {
	var r Result
	n := 0
	set(reflect.ValueOf(&r).Elem(), &n)
	for _, want := range []Result{{}, r} {
		got, err := DecodeResult(want.Append(nil))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Error(err, diff)
		}
	}
	if _, err := DecodeResult([]byte("\x01\xff")); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged: %v", err)
	}
}

// Rows of an import say only once what all of them have in common, and there is one way to say it.
func TestListOfSuppressions(t *testing.T) {
	var cmd Suppress
	for i := range 1000 {
		v := black(fmt.Sprintf("user.%d@mail.example.jp", i))
		v.List, v.Tenant = Blocklist, "shop"
		cmd.Add = append(cmd.Add, v)
	}
	data, err := Encode(&cmd)
	if most := 1000 * (2 + len("user.123@mail.example.jp")); err != nil || len(data) > most+100 {
		t.Fatalf("%d octets, want %d and little more: %v", len(data), most, err)
	}
	long := Suppress{Add: []Suppression{black("a@a.jp"), black("b@a.jp"), black("c@a.jp")}}
	for i := range long.Add {
		long.Add[i].Reason = strings.Repeat("r", maxCommand/3)
	}
	if _, err := Encode(&long); !errors.Is(err, ErrTooLarge) {
		t.Errorf("long reasons that are all the same: %v", err)
	}
	head := string([]byte{codecVersion}) + "\x02\x00\x00\x00\x02" // no author, two rows
	for name, row := range map[string]struct {
		rows string
		want error
	}{
		"the second differs by its address": {"\x1e\x01a\x01\x00\x00" + "\x1f\x01b", nil},
		"and by its list":                   {"\x1e\x01a\x01\x00\x00" + "\x1e\x01b\x02\x00\x00", nil},
		"the same list said again":          {"\x1e\x01a\x01\x00\x00" + "\x1e\x01b\x01\x00\x00", ErrDamaged},
		"an empty reason said":              {"\x1c\x01a\x01\x00\x00\x00" + "\x1f\x01b", ErrDamaged},
		"something unknown in common":       {"\x1e\x01a\x01\x00\x00" + "\x3f\x01b", ErrDamaged},
		"cut":                               {"\x1e\x01a\x01\x00\x00" + "\x1f\x02b", ErrDamaged},
	} {
		if _, err := Decode([]byte(head + row.rows)); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
}

func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 5000).Draw(t, "n")
		size := rapid.IntRange(1, 2000).Draw(t, "size")
		big := Suppress{Signed: Signed{Author: "ops", At: moment(1)}}
		for i := range n {
			v := black(fmt.Sprintf("%d@a.jp", i))
			v.Evidence = strings.Repeat("e", i*7919%size)
			big.Add = append(big.Add, v)
		}
		next := 0
		for i, part := range Split(big) {
			data, err := Encode(part)
			if err != nil || len(data) > 256<<10 || (part.Author != "") != (i == 0) {
				t.Fatalf("part %d: %d bytes by %q: %v", i, len(data), part.Author, err)
			}
			for _, v := range part.Add {
				if v != big.Add[next] {
					t.Fatalf("part %d: %v instead of %v", i, v, big.Add[next])
				}
				next++
			}
		}
		if next != n {
			t.Fatalf("%d of %d", next, n)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, cmd := range everyKind() {
		data, err := Encode(cmd)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(append([]byte{codecVersion, byte(codeSuppress)}, "\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"...))
	f.Fuzz(func(t *testing.T, data []byte) {
		cmd, err := Decode(data)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		again, err := Encode(cmd)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%x decodes, and encodes as %x: %v", data, again, err)
		}
		_ = cmd.subject()
	})
}
