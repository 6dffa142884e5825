package wandb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// contact finds out what the server has of the run, whether it fits, and makes the run
// there.
func (u *uploader) contact(ctx context.Context) error {
	run := u.state.run
	entity := cmpOr(run.Entity, u.settings.Entity)
	project := cmpOr(run.Project, u.settings.Project)
	if u.has != nil {
		if err := u.same(u.has); err != nil {
			return err
		}
		entity, project = u.has.Entity, u.has.Project
	}
	if entity == "" {
		var viewer viewerAnswer
		if err := u.api.graphql(ctx, "Viewer", queryViewer, nil, &viewer); err != nil {
			return err
		}
		if viewer.Viewer == nil {
			return &ServerError{Request: "the key", Status: http.StatusUnauthorized, Message: "it belongs to nobody"}
		}
		entity = viewer.Viewer.Entity
	}
	before, err := u.before()
	if err != nil {
		return err
	}
	first, name := u.has == nil, before.Run
	check := before.atLeast
	if !first {
		check, name = u.has.fits, u.has.Run
	}
	var there *bucket
	for try := 2; ; try++ {
		if there, err = u.settled(ctx, entity, project, name, check); err != nil {
			return err
		}
		if first {
			if err := u.begin(there, entity, project, name); err != nil {
				return err
			}
		}
		u.inherit(there)
		err := u.upsert(ctx, entity, project)
		if err == nil {
			break
		}
		// The server gives the id of a deleted run to nobody.
		if !first || !IsDeleted(err) || before.Base != (lines{}) || try > 20 {
			return err
		}
		gone := name
		name = fmt.Sprintf("%s-%d", run.ID, try)
		u.notice(Renamed, fmt.Sprintf("the run %s was deleted on the server, which does not take its id again; it is sent as %s", gone, name))
	}
	var features featuresAnswer
	if err := u.api.graphql(ctx, "ServerFeaturesQuery", queryFeatures, nil, &features); err != nil && status(err) == 0 {
		return err
	}
	for _, f := range features.ServerInfo.Features {
		u.structured = u.structured || f.Name == "STRUCTURED_CONSOLE_LOGS" && f.IsEnabled
	}
	if err := u.has.write(u.path); err != nil {
		return err
	}
	page := u.settings.runURL(u.has.Entity, u.has.Project, u.has.Run)
	u.mu.Lock()
	u.page = page
	u.mu.Unlock()
	u.result.URL, u.result.ID = page, u.has.Run
	if !u.quiet {
		u.notice(Started, page)
	}
	return nil
}

// same says that what was sent of the log went to another server.
func (u *uploader) same(has *acknowledged) error {
	if has.Server == u.settings.BaseURL {
		return nil
	}
	name := shown(acknowledgedPath(u.path))
	if _, err := os.Stat(syncedPath(u.path)); err == nil {
		name += " and " + shown(syncedPath(u.path))
	}
	return fmt.Errorf("the run was sent to %s; remove %s to send it to %s as well", has.Server, name, u.settings.BaseURL)
}

// inherit takes over what the run was before this log.
func (u *uploader) inherit(there *bucket) {
	if there == nil || !u.state.run.Resume {
		return
	}
	config := parseTree(there.Config)
	for k, v := range config {
		text, _ := v.(raw)
		if value := unwrapped(string(text)); k != "_wandb" {
			u.state.config[k] = value
		} else if labels, there := (tree{"_wandb": value}).copyOf("_wandb")["mask/class_labels"]; there {
			u.state.config.inner("_wandb")["mask/class_labels"] = labels
		}
	}
	u.state.summary.under(parseTree(there.SummaryMetrics))
}

// before is what was sent of the run with logs before this one.
func (u *uploader) before() (*acknowledged, error) {
	most := &acknowledged{Run: u.state.run.ID}
	logs, err := logsOf(filepath.Dir(filepath.Dir(u.path)), u.state.run.ID)
	for _, path := range logs {
		if path == u.path {
			break
		}
		a, failed := readAcknowledged(path)
		if failed != nil {
			return nil, failed
		}
		if a != nil && a.Server == u.settings.BaseURL && a.Base.plus(a.Lines).History >= most.Base.History {
			most.Base, most.Run = a.Base.plus(a.Lines), a.Run
		}
	}
	return most, err
}

// settled asks what the server has of the run until the check passes. Servers count
// with delay, so a count that is too low may be right soon; it is asked for five times.
func (u *uploader) settled(ctx context.Context, entity, project, name string, check func(*bucket) error) (*bucket, error) {
	for try := 0; ; try++ {
		there, err := u.bucket(ctx, entity, project, name)
		if err != nil {
			return nil, err
		}
		if err = check(there); err == nil {
			return there, nil
		}
		if wrong := new(CountError); try == 4 || errors.As(err, &wrong) && wrong.Has > wrong.least {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(min(u.settings.RetryMin<<try, u.settings.RetryMax)):
		}
	}
}

// unwrapped is a value of the configuration as a server gives it.
func unwrapped(text string) any {
	if v, there := parseTree(text)["value"]; there {
		return v
	}
	return raw(text)
}

func (u *uploader) bucket(ctx context.Context, entity, project, id string) (*bucket, error) {
	var answer resumeAnswer
	err := u.api.graphql(ctx, "RunResumeStatus", queryResume, map[string]any{"entity": entity, "project": project, "name": id}, &answer)
	if err != nil || answer.Model == nil {
		return nil, err
	}
	return answer.Model.Bucket, nil
}

// begin decides where the lines of a log go that was never sent.
func (u *uploader) begin(there *bucket, entity, project, name string) error {
	run := u.state.run
	u.has = &acknowledged{Server: u.settings.BaseURL, Entity: entity, Project: project, Run: name}
	switch {
	case there == nil || there.HistoryLineCount+there.EventsLineCount+there.LogLineCount == 0:
		if there == nil && u.live && u.settings.Resume == ResumeMust {
			return fmt.Errorf("the server has no run %s, and resume is must", run.ID)
		}
		return nil
	case u.live && u.settings.Resume == ResumeNever:
		return fmt.Errorf("the server has a run %s already, and resume is never", run.ID)
	case !run.Resume:
		return &CountError{Run: run.ID, What: "rows", Has: there.HistoryLineCount, Expected: "0 (the log does not say that it continues a run)"}
	}
	u.has.Base = lines{there.HistoryLineCount, there.EventsLineCount, there.LogLineCount}
	if row := lastOf(there.HistoryTail); row != nil {
		last := row.step(-1)
		u.has.AfterStep = &last
		if first, ok := u.firstStep(); ok && !u.live && first <= last {
			u.has.SkipOutput = there.LogLineCount // the log is one that another place has sent
		}
	}
	if row := lastOf(there.EventsTail); row != nil {
		u.has.AfterTime = row.number("_timestamp")
	}
	return nil
}

// lastOf is the last row of a tail.
func lastOf(tail string) tree {
	var rows []string
	if json.Unmarshal([]byte(tail), &rows) != nil || len(rows) == 0 {
		return nil
	}
	return parseTree(bare.Replace(rows[len(rows)-1]))
}

// firstStep is that of the first row of the log.
func (u *uploader) firstStep() (int64, bool) {
	for {
		r, err := u.reader.Next()
		if err != nil {
			return 0, false
		}
		if r.History != nil {
			return rowOf(r.History).step(-1), true
		}
	}
}

// upsert makes the run on the server, or changes it. The server's names count from then on.
func (u *uploader) upsert(ctx context.Context, entity, project string) error {
	run := u.state.run
	given := map[string]any{"name": u.has.Run, "entity": entity, "project": project}
	for key, v := range map[string]string{
		"groupName": run.Group, "jobType": run.JobType, "displayName": run.DisplayName, "notes": run.Notes, "sweep": run.SweepID, "host": run.Host,
	} {
		given[key] = nil
		if v != "" {
			given[key] = v
		}
	}
	given["tags"] = nil
	if len(run.Tags) > 0 {
		given["tags"] = run.Tags
	}
	if run.Git != nil {
		given["commit"], given["repo"] = run.Git.Commit, run.Git.Remote
	}
	given["config"] = u.state.sentConfig().String()
	var answer upsertAnswer
	if err := u.api.graphql(ctx, "UpsertBucket", mutationUpsert, given, &answer, http.StatusConflict); err != nil {
		return err
	}
	b := answer.UpsertBucket.Bucket
	if b.Name == "" {
		return &ForeignError{u.settings.BaseURL}
	}
	u.has.Entity, u.has.Project = cmpOr(b.Project.Entity.Name, entity), cmpOr(b.Project.Name, project)
	u.has.Run = b.Name
	u.lastUpsert = time.Now()
	return nil
}

// upsertConfig sends the configuration alone: names that people change stay.
func (u *uploader) upsertConfig(ctx context.Context) error {
	given := map[string]any{"name": u.has.Run, "entity": u.has.Entity, "project": u.has.Project, "config": u.state.sentConfig().String()}
	var answer upsertAnswer
	if err := u.api.graphql(ctx, "UpsertBucket", mutationUpsert, given, &answer, http.StatusConflict); err != nil {
		return err
	}
	u.pending.config, u.lastUpsert = false, time.Now()
	return nil
}
