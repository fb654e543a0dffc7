package settings

import (
	"fmt"

	"github.com/goccy/go-yaml"
)

// Decode reads a settings file: strict keys, defaults filled in, everything validated. readFile fetches the file that
// `receivers:` names (a name as written, relative to the settings file); nil refuses such names. The error is an
// Errors with everything that is wrong; then the settings are nil.
func Decode(src []byte, readFile func(name string) ([]byte, error)) (*Settings, error) {
	s := &Settings{}
	lines, err := Strict(src, s)
	errs, _ := err.(Errors)
	if name := s.Receivers.File; name != "" {
		rules, more := readRules(name, lines.Of("receivers"), readFile)
		s.Receivers.Rules = rules
		errs = append(errs, more...)
	}
	if len(errs) > 0 {
		// Values that did not decode would only produce misleading words about missing keys.
		return nil, errs
	}
	s.Fill()
	if errs := s.check(lines); len(errs) > 0 {
		return nil, errs
	}
	return s, nil
}

func readRules(name string, line int, readFile func(string) ([]byte, error)) ([]ReceiverRule, Errors) {
	at := &Error{Line: line, Key: "receivers"}
	if readFile == nil {
		at.Text = "the name of a file is not allowed here; give the rules themselves"
		return nil, Errors{at}
	}
	src, err := readFile(name)
	if err != nil {
		at.Text = fmt.Sprintf("cannot read the file: %v", err)
		return nil, Errors{at}
	}
	rules, err := DecodeRules(src)
	errs, _ := err.(Errors)
	for _, e := range errs {
		e.File = name
	}
	return rules, errs
}

// Encode writes s as a settings file that Decode reads back to an equal value. Rules that came from a file are
// written inline, so that the result stands alone.
func Encode(s *Settings) ([]byte, error) {
	out, err := yaml.MarshalWithOptions(s, yaml.Indent(2), yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("encode settings: %w", err)
	}
	return out, nil
}
