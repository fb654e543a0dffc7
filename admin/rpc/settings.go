package rpc

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// GetSettings returns the settings in force.
func (h *handler) GetSettings(ctx context.Context, _ *adminpb.GetSettingsRequest) (*adminpb.GetSettingsResponse, error) {
	if h.s.Settings == nil {
		return nil, notYet("GetSettings", "a later release")
	}
	yaml, revision, err := h.s.Settings.Settings(ctx)
	if err != nil {
		return nil, err
	}
	return &adminpb.GetSettingsResponse{Yaml: string(yaml), Revision: revision}, nil
}

// ApplySettings puts other settings in their place, or tells what that would change.
func (h *handler) ApplySettings(ctx context.Context, req *adminpb.ApplySettingsRequest) (*adminpb.ApplySettingsResponse, error) {
	if h.s.Settings == nil {
		return nil, notYet("ApplySettings", "a later release")
	}
	if req.Yaml == "" {
		return nil, fmt.Errorf("%w: settings are needed", service.ErrInvalid)
	}
	done, err := h.s.Settings.Apply(ctx, service.Application{YAML: []byte(req.Yaml), Base: req.Base, DryRun: req.DryRun, Author: operator})
	if err != nil {
		return nil, err
	}
	if !req.DryRun && len(done.Changes) > 0 {
		h.log.Info("settings applied", "revision", done.Revision, "objects", len(done.Changes))
	}
	r := &adminpb.ApplySettingsResponse{Difference: settings.Difference(done.Changes), Revision: done.Revision}
	for _, c := range done.Changes {
		p := &adminpb.SettingsChange{Kind: c.Kind, Name: c.Name, Change: c.Change}
		for _, l := range c.Lines {
			p.Lines = append(p.Lines, &adminpb.SettingsLine{Key: l.Key, Old: l.Old, New: l.New})
		}
		r.Changes = append(r.Changes, p)
	}
	return r, nil
}

// settingsError tells everything that is wrong with settings, so that a caller can point at its lines.
func settingsError(wrong settings.Errors) error {
	err := connect.NewError(connect.CodeInvalidArgument, wrong)
	list := &adminpb.SettingsProblems{}
	for _, w := range wrong {
		list.Problems = append(list.Problems, &adminpb.SettingsProblem{Line: uint32(w.Line), Key: clean(w.Key), Text: clean(w.Text)})
	}
	if detail, broken := connect.NewErrorDetail(list); broken == nil {
		err.AddDetail(detail)
	}
	return err
}
