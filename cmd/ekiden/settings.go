package main

import (
	"io"
	"reflect"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

type settingsCmds struct {
	Export settingsExportCmd `cmd:"" help:"Print the settings in force as YAML."`
	Schema settingsSchemaCmd `cmd:"" help:"Print the JSON schema of a settings file."`
	Rules  settingsRulesCmds `cmd:"" help:"Rules about what receivers answer."`
}

type settingsExportCmd struct{ serverFlags }

func (settingsExportCmd) Help() string { return "Example: ekiden settings export > settings.yaml" }

// Run prints the settings in force.
func (c settingsExportCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.GetSettings(a.ctx, &adminpb.GetSettingsRequest{})
	if err != nil {
		return err
	}
	if a.json {
		return printProto(a.out, r)
	}
	_, err = io.WriteString(a.out, r.Yaml)
	return err
}

type settingsSchemaCmd struct{}

func (settingsSchemaCmd) Help() string {
	return "Example: ekiden settings schema > settings.schema.json"
}

// Run prints what a settings file may hold.
func (settingsSchemaCmd) Run(a *app) error {
	s := schemaOf(reflect.TypeFor[settings.Settings]())
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "ekiden settings"
	return printJSON(a.out, s)
}

// schemaOf describes how a value of type t is written in YAML. Values and ranges are left to "ekiden check".
func schemaOf(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[settings.Duration]():
		return map[string]any{"type": "string", "examples": []string{"1m30s"}}
	case reflect.TypeFor[settings.Receivers]():
		return map[string]any{"oneOf": []any{
			map[string]any{"type": "string", "description": "name of a file next to the settings"},
			map[string]any{"type": "array", "items": schemaOf(reflect.TypeFor[settings.ReceiverRule]())},
		}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Struct:
		properties := map[string]any{}
		structSchema(t, properties)
		return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	}
	return map[string]any{"type": "string"}
}

func structSchema(t reflect.Type, into map[string]any) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case strings.Contains(options, "inline"):
			structSchema(f.Type, into)
		case name != "" && name != "-":
			into[name] = schemaOf(f.Type)
		}
	}
}
