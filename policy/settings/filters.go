package settings

import (
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
	"github.com/ekiden-mta/ekiden/policy/schedule"
)

// filters makes the filters of a composition ready to match; nil where there are none.
func filters(k *Composition) (*filter.Set, error) {
	if len(k.Priority)+len(k.QuietHours)+len(k.Forward)+len(k.Unsubscribe) == 0 {
		return nil, nil
	}
	var s filter.Set
	for _, f := range k.Priority {
		c, err := condition(f.Filter)
		if err != nil {
			return nil, err
		}
		s.AddPriority(c, uint8(f.Priority))
	}
	for _, q := range k.QuietHours {
		apply, err := conditions(q.Apply)
		if err != nil {
			return nil, err
		}
		except, err := conditions(q.Except)
		if err != nil {
			return nil, err
		}
		from, err := ParseTimeOfDay(q.From)
		if err != nil {
			return nil, err
		}
		to, err := ParseTimeOfDay(q.To)
		if err != nil {
			return nil, err
		}
		s.AddQuiet(apply, except, schedule.Text(int(from/time.Minute)%1440, int(to/time.Minute)%1440, q.Zone))
	}
	for _, f := range k.Forward {
		c, err := condition(f.Filter)
		if err != nil {
			return nil, err
		}
		s.AddForward(c, mail.Address(f.To), f.Mode == "copy")
	}
	for _, f := range k.Unsubscribe {
		c, err := condition(f.Filter)
		if err != nil {
			return nil, err
		}
		s.AddList(c, filter.List{Name: f.Name, URL: f.URL, OneClick: f.OneClick})
	}
	return &s, nil
}

func condition(f Filter) (filter.Condition, error) {
	re, err := CompilePattern(f.Pattern)
	return filter.Condition{Header: f.Header, Pattern: re}, err
}

func conditions(fs []Filter) ([]filter.Condition, error) {
	var out []filter.Condition
	for _, f := range fs {
		c, err := condition(f)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// domainHours is quiet hours by the pattern of a domain: exact, ".suffix" for "*.suffix", "*".
type domainHours map[string]schedule.Hours

// quietHours turns the permitted hours of the settings, which must be valid, into quiet ones.
func quietHours(list []SendingHour) domainHours {
	open := map[string][]schedule.Window{}
	for _, h := range list {
		from, _ := ParseTimeOfDay(h.From)
		to, _ := ParseTimeOfDay(h.To)
		name := strings.ToLower(h.Domain)
		if d, err := mail.ParseDomain(name); err == nil {
			name = string(d)
		}
		name = strings.TrimPrefix(name, "*")
		open[name] = append(open[name], schedule.Window{From: int(from / time.Minute), To: int(to / time.Minute)})
	}
	out := domainHours{}
	for name, spans := range open {
		out[name] = schedule.Outside(spans)
	}
	return out
}

// QuietHours is when nothing is sent to d, by the permitted hours of its domain, of the nearest domain above it that
// has a pattern, or of all (requirement R37); nil = never.
func (x *Index) QuietHours(d mail.Domain) schedule.Hours {
	if len(x.hours) == 0 {
		return nil
	}
	if h, ok := x.hours[string(d)]; ok {
		return h
	}
	for name := string(d); ; {
		i := strings.IndexByte(name, '.')
		if i < 0 {
			return x.hours[""]
		}
		if h, ok := x.hours[name[i:]]; ok {
			return h
		}
		name = name[i+1:]
	}
}
