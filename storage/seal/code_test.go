package seal

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCodeForm(t *testing.T) {
	form := regexp.MustCompile(`^([0-9A-HJKMNP-TV-Z]{5}-){7}[0-9A-HJKMNP-TV-Z]{5}$`)
	seen := map[string]bool{}
	for range 100 {
		text := codeText(newCode())
		if !form.MatchString(text) || seen[text] {
			t.Fatalf("code %q", text)
		}
		seen[text] = true
	}
}

func TestCodeIsReadAsPeopleTypeIt(t *testing.T) {
	code := [codeSize]byte{0, 1, 2, 3, 0x84, 0x21, 0x08, 0x42, 0x10, 0xff}
	text := codeText(code)
	loose := strings.NewReplacer("0", "O", "1", "l", "-", "\t").Replace(text)
	for name, typed := range map[string]string{
		"as printed":   text,
		"lower case":   strings.ToLower(text),
		"spaces":       strings.ReplaceAll(text, "-", "  ") + "\r\n",
		"run together": strings.ReplaceAll(text, "-", ""),
		"O and l":      loose,
		"o and I":      strings.NewReplacer("O", "o", "l", "I").Replace(loose),
	} {
		got, err := parseCode(typed)
		if err != nil || got != code {
			t.Errorf("%s: %q: %v", name, typed, err)
		}
	}
}

func TestCodeTypos(t *testing.T) {
	text := codeText([codeSize]byte{9, 8, 7, 6, 5, 4, 3, 2, 1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
	groups := strings.Split(text, "-")
	swapped := append([]string(nil), groups...)
	swapped[2], swapped[5] = swapped[5], swapped[2]
	for name, row := range map[string]struct{ typed, says string }{
		"empty":          {"", "0 symbols"},
		"a group short":  {strings.Join(groups[:7], "-"), "35 symbols"},
		"a group more":   {text + "-" + groups[0], "group 8"},
		"foreign letter": {strings.Replace(text, groups[3], "U"+groups[3][1:], 1), "group 4"},
		"other script":   {strings.Replace(text, groups[1], "日"+groups[1][1:], 1), "group 2"},
		"groups swapped": {strings.Join(swapped, "-"), "group 3"},
		"endless":        {strings.Repeat(" ", 1<<20), "longer"},
	} {
		if _, err := parseCode(row.typed); !errors.Is(err, ErrTypo) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v; want it to say %q", name, err, row.says)
		}
	}
}

// Every single wrong symbol and every swap of two symbols within a group is found, in the right group.
func TestCodeFindsEverySlip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var code [codeSize]byte
		copy(code[:], rapid.SliceOfN(rapid.Byte(), codeSize, codeSize).Draw(t, "code"))
		text := []byte(codeText(code))
		if got, err := parseCode(string(text)); err != nil || got != code {
			t.Fatalf("%s: %x, %v", text, got, err)
		}
		g := rapid.IntRange(0, codeGroups-1).Draw(t, "group")
		group := text[g*(groupSize+1):][:groupSize]
		i := rapid.IntRange(0, groupSize-1).Draw(t, "at")
		was := string(group)
		if rapid.Bool().Draw(t, "swap") {
			j := rapid.IntRange(0, groupSize-1).Draw(t, "with")
			group[i], group[j] = group[j], group[i]
		} else {
			group[i] = codeDigits[rapid.IntRange(0, 31).Draw(t, "digit")]
		}
		if string(group) == was {
			return
		}
		if _, err := parseCode(string(text)); !errors.Is(err, ErrTypo) {
			t.Fatalf("%s for %s in group %d: %v", group, was, g+1, err)
		}
	})
}

func FuzzParseCode(f *testing.F) {
	f.Add(codeText([codeSize]byte{1, 2, 3}))
	f.Add("00000-0000")
	f.Add("ııIİ")
	f.Fuzz(func(t *testing.T, text string) {
		code, err := parseCode(text)
		if err != nil {
			if code != [codeSize]byte{} || !errors.Is(err, ErrTypo) {
				t.Errorf("%q: %x, %v", text, code, err)
			}
			return
		}
		if again, err := parseCode(codeText(code)); err != nil || again != code {
			t.Errorf("%q reads as %x, whose own text does not", text, code)
		}
	})
}
