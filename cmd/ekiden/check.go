package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/ekiden-mta/ekiden/internal/version"
	"github.com/ekiden-mta/ekiden/node"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// maxSettings is the largest settings file that is read, in octets.
const maxSettings = 64 << 20

type checkCmd struct {
	Config   string `short:"c" help:"Node file." placeholder:"FILE" xor:"file"`
	Settings string `short:"f" help:"Settings file." placeholder:"FILE" xor:"file"`
}

func (checkCmd) Help() string {
	return "Takes one of the two files.\n\nExample: ekiden check -c node.yaml"
}

// Run validates the file and changes nothing.
func (c checkCmd) Run(a *app) error {
	if c.Config == "" && c.Settings == "" {
		return badUsage(errors.New("a file is needed: -c node.yaml, or -f settings.yaml"))
	}
	path, problems := c.Config, []node.Problem(nil)
	var warnings []string
	var err error
	if c.Settings != "" {
		path = c.Settings
		problems, err = checkSettings(path)
	} else {
		warnings, problems, err = checkNodeFile(path)
	}
	if err != nil {
		return badUsage(err)
	}
	if a.json {
		out := struct {
			File     string         `json:"file"`
			OK       bool           `json:"ok"`
			Problems []node.Problem `json:"problems"`
			Warnings []string       `json:"warnings"`
		}{path, len(problems) == 0, append([]node.Problem{}, problems...), append([]string{}, warnings...)}
		if err := printJSON(a.out, out); err != nil {
			return err
		}
		if len(problems) > 0 {
			return &coded{exitUsage, errSilent}
		}
		return nil
	}
	for _, w := range warnings {
		fmt.Fprintf(a.err, "ekiden: warning: %s\n", printable(w))
	}
	if len(problems) > 0 {
		return badUsage(&node.ConfigError{Problems: problems})
	}
	_, err = fmt.Fprintf(a.out, "%s: ok\n", printable(path))
	return err
}

func checkNodeFile(path string) (warnings []string, problems []node.Problem, err error) {
	c, err := node.ReadConfig(path)
	if err == nil {
		err = c.Validate()
	}
	var bad *node.ConfigError
	if errors.As(err, &bad) {
		return nil, bad.Problems, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if c.Settings != "" {
		if problems, err = checkSettings(c.Settings); err != nil {
			return nil, nil, err
		}
	}
	return c.Warnings(), problems, nil
}

func checkSettings(path string) ([]node.Problem, error) {
	_, _, problems, err := readSettings(path)
	return problems, err
}

// readSettings reads a settings file, and the file of rules it may name. Where problems are found, s is nil.
func readSettings(path string) (s *settings.Settings, src []byte, problems []node.Problem, err error) {
	if src, err = readBounded(path); err != nil {
		return nil, nil, nil, err
	}
	s, err = settings.Decode(src, beside(path))
	var bad settings.Errors
	if !errors.As(err, &bad) {
		return s, src, nil, err
	}
	for _, e := range bad {
		p := node.Problem{File: path, Line: e.Line, Key: e.Key, Text: e.Text}
		if e.File != "" {
			p.File = e.File
		}
		problems = append(problems, p)
	}
	return nil, src, problems, nil
}

// beside reads files that the file at path names: where they are relative, from its folder.
func beside(path string) func(name string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(path), name)
		}
		return readBounded(name)
	}
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxSettings+1))
	if err == nil && len(src) > maxSettings {
		err = fmt.Errorf("%s is larger than 64 MiB", path)
	}
	return src, err
}

type versionCmd struct{}

func (versionCmd) Help() string { return "Example: ekiden version --json" }

// Run prints the version.
func (versionCmd) Run(a *app) error {
	if a.json {
		return printJSON(a.out, map[string]string{"version": version.String(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
	}
	_, err := fmt.Fprintf(a.out, "ekiden %s %s %s/%s\n", version.String(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
