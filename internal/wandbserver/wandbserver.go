// Package wandbserver imitates a server of Weights & Biases, for tests. It
// answers the requests of the official client and of runner/wandb, keeps what arrives, and
// makes the faults that a test asks for. It is as faithful as what is known of the
// protocol; nothing here was compared with a real server.
package wandbserver

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is what goes wrong with one request.
type Fault string

const (
	None     Fault = ""
	Status   Fault = "status"   // refused with Answer.Status
	Drop     Fault = "drop"     // the connection ends before the request is handled
	DropLate Fault = "droplate" // it is handled, and the connection ends without an answer
	Half     Fault = "half"     // it is handled, and half of the answer is sent
	Slow     Fault = "slow"     // it is handled and answered after Answer.Wait
)

// Answer is how a server answers one request instead of as it should.
type Answer struct {
	Fault      Fault
	Status     int
	RetryAfter string
	Message    string
	Wait       time.Duration
}

// Run is what arrived of one run.
type Run struct {
	Name    string
	Upserts []map[string]any          // variables of UpsertBucket, in order
	Config  string                    // of the last one that has one
	Lines   map[string]map[int]string // of wandb-history.jsonl and others, by offset
	Files   map[string][]byte
	Alerts  []map[string]any
	Exits   []int
	Listed  []string // paths under "uploaded"

	Repeated   int // lines that came again at their place, with the same content
	Changed    int // lines that came again at their place with another content
	Heartbeats int
	Preempting int
}

// Artifact is a version of an artifact.
type Artifact struct {
	ID, Run, Type, Name, Digest, ClientID string
	Aliases                               []string
	Metadata, Description                 string
	Files                                 map[string][]byte
	Manifest                              []byte
	Committed                             bool
}

// Server is a running imitation. Its fields may be read and set while no request is under
// way, or under Lock.
type Server struct {
	sync.Mutex
	URL    string // of the API, with a path
	Key    string // that requests have to carry
	Entity string // of the key

	Runs       map[string]*Run // by entity/project/name
	Artifacts  []*Artifact
	Requests   map[string]int  // counts by operation: a name of GraphQL, "file_stream", "PUT"
	Leaks      []string        // requests that carried the key where none belongs
	Faults     map[Fault]int   // counts of those made
	Structured bool            // says that it takes console text as JSON
	Stop       bool            // says that the stop button was pressed
	Down       atomic.Bool     // drops every connection
	Deleted    map[string]bool // names of runs that were deleted, and cannot be made again

	fault func(operation string) Answer

	http *httptest.Server
	base string
}

// New starts a server on the loopback. It ends with Close.
func New(key string) *Server {
	s := &Server{Key: key, Entity: "lab", Runs: map[string]*Run{}, Requests: map[string]int{}, Faults: map[Fault]int{}, base: "/wb"}
	s.http = httptest.NewServer(s)
	s.URL = s.http.URL + s.base
	return s
}

// Close ends the server.
func (s *Server) Close() { s.http.Close() }

// Fail makes the answers that answer gives before each request; nil makes no faults. It may
// be called while requests run, and answer is called under Lock.
func (s *Server) Fail(answer func(operation string) Answer) {
	s.Lock()
	defer s.Unlock()
	s.fault = answer
}

// Run is what arrived of a run of the entity of the key; nil if nothing did.
func (s *Server) Run(project, name string) *Run {
	s.Lock()
	defer s.Unlock()
	return s.Runs[s.Entity+"/"+project+"/"+name]
}

// Rows are the lines of a file in order, with an error if one is missing.
func (r *Run) Rows(file string) (rows []string, err error) {
	for i := range len(r.Lines[file]) {
		line, there := r.Lines[file][i]
		if !there {
			return nil, fmt.Errorf("line %d of %s is missing", i, file)
		}
		rows = append(rows, line)
	}
	return rows, nil
}

var stepForm = regexp.MustCompile(`"_step":(\d+)`)

// Doubled counts rows that are at two places.
func (r *Run) Doubled() (n int) {
	seen := map[string]bool{}
	for _, line := range r.Lines["wandb-history.jsonl"] {
		step := stepForm.FindString(line)
		if seen[step] {
			n++
		}
		seen[step] = true
	}
	return n
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	path := strings.TrimPrefix(r.URL.Path, s.base)
	operation := "other"
	var question struct {
		OperationName string
		Variables     map[string]any
	}
	switch {
	case r.Method == "PUT":
		operation = "PUT"
	case strings.HasSuffix(path, "/file_stream"):
		operation = "file_stream"
	case path == "/graphql":
		if err := json.Unmarshal(body, &question); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		operation = question.OperationName
	}
	s.Lock()
	s.Requests[operation]++
	answer := Answer{}
	if s.fault != nil {
		answer = s.fault(operation)
	}
	if s.Down.Load() {
		answer = Answer{Fault: Drop}
	}
	if answer.Fault != None {
		s.Faults[answer.Fault]++
	}
	s.Unlock()
	if answer.Wait > 0 {
		time.Sleep(answer.Wait)
	}
	switch answer.Fault {
	case Drop:
		drop(w)
		return
	case Status:
		if answer.RetryAfter != "" {
			w.Header().Set("Retry-After", answer.RetryAfter)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(answer.Status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": answer.Message})
		return
	}
	code, reply := s.handle(operation, path, r, body, question.Variables)
	switch answer.Fault {
	case DropLate:
		drop(w)
		return
	case Half:
		w.Header().Set("Content-Length", strconv.Itoa(len(reply)))
		w.WriteHeader(code)
		_, _ = w.Write(reply[:len(reply)/2])
		drop(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(reply)
}

// drop ends the connection.
func drop(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	_ = c.Flush()
	if conn, _, err := c.Hijack(); err == nil {
		conn.Close()
		return
	}
	panic(http.ErrAbortHandler)
}

// handle does what a request asks for.
func (s *Server) handle(operation, path string, r *http.Request, body []byte, variables map[string]any) (int, []byte) {
	s.Lock()
	defer s.Unlock()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("api:"+s.Key))
	carried := r.Header.Get("Authorization")
	switch {
	case operation == "PUT":
		if carried != "" {
			s.Leaks = append(s.Leaks, r.URL.Path)
		}
		return s.put(path, body)
	case carried != want:
		return refuse(http.StatusUnauthorized, "the key is not known")
	case operation == "file_stream":
		return s.stream(path, body)
	case path == "/graphql":
		return s.graphql(operation, variables)
	}
	return refuse(http.StatusNotFound, "no such page: "+path)
}

func refuse(code int, message string) (int, []byte) {
	text, _ := json.Marshal(map[string]any{"errors": []any{map[string]any{"message": message}}})
	return code, text
}

func (s *Server) put(path string, body []byte) (int, []byte) {
	if rest, found := strings.CutPrefix(path, "/storage/run/"); found {
		parts := strings.SplitN(rest, "/", 4)
		run := s.Runs[strings.Join(parts[:3], "/")]
		if len(parts) < 4 || run == nil {
			return refuse(http.StatusNotFound, "no such run")
		}
		run.Files[parts[3]] = body
		return http.StatusOK, nil
	}
	if rest, found := strings.CutPrefix(path, "/storage/artifact/"); found {
		number, name, _ := strings.Cut(rest, "/")
		i, err := strconv.Atoi(number)
		if err != nil || i >= len(s.Artifacts) {
			return refuse(http.StatusNotFound, "no such artifact")
		}
		if name == "wandb_manifest.json" {
			s.Artifacts[i].Manifest = body
		} else {
			s.Artifacts[i].Files[name] = body
		}
		return http.StatusOK, nil
	}
	return refuse(http.StatusNotFound, "no such place")
}

func (s *Server) stream(path string, body []byte) (int, []byte) {
	parts := strings.Split(strings.TrimPrefix(path, "/files/"), "/")
	run := s.Runs[strings.Join(parts[:min(3, len(parts))], "/")]
	if run == nil {
		return refuse(http.StatusNotFound, "no such run")
	}
	var sent struct {
		Files map[string]struct {
			Offset  int
			Content []string
		}
		Uploaded   []string
		Complete   bool
		ExitCode   *int
		Preempting bool
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		return refuse(http.StatusBadRequest, err.Error())
	}
	if strings.TrimSpace(string(body)) == "{}" {
		run.Heartbeats++
	}
	for name, f := range sent.Files {
		if run.Lines[name] == nil {
			run.Lines[name] = map[int]string{}
		}
		for i, line := range f.Content {
			at := f.Offset + i
			before, there := run.Lines[name][at]
			if name != "wandb-summary.json" && there {
				if before == line {
					run.Repeated++
				} else {
					run.Changed++
				}
			}
			run.Lines[name][at] = line
		}
	}
	run.Listed = append(run.Listed, sent.Uploaded...)
	if sent.Preempting {
		run.Preempting++
	}
	if sent.Complete && sent.ExitCode != nil {
		run.Exits = append(run.Exits, *sent.ExitCode)
	}
	if s.Stop {
		return http.StatusOK, []byte(`{"stopped":true}`)
	}
	return http.StatusOK, []byte("{}")
}

type object = map[string]any

func text(v any) string { t, _ := v.(string); return t }

func (s *Server) graphql(operation string, v map[string]any) (int, []byte) {
	ok := func(data object) (int, []byte) {
		reply, _ := json.Marshal(object{"data": data})
		return http.StatusOK, reply
	}
	entity := text(v["entity"])
	if entity == "" {
		entity = s.Entity
	}
	project := text(v["project"])
	if project == "" {
		project = "uncategorized"
	}
	name := text(v["name"])
	id := entity + "/" + project + "/" + name
	switch operation {
	case "Viewer":
		return ok(object{"viewer": object{"id": "v", "entity": s.Entity, "username": "someone", "email": "", "flags": "{}", "teams": object{"edges": []any{}}}})
	case "ServerFeaturesQuery":
		features := []any{}
		if s.Structured {
			features = append(features, object{"name": "STRUCTURED_CONSOLE_LOGS", "isEnabled": true})
		}
		return ok(object{"serverInfo": object{"features": features}})
	case "RunResumeStatus":
		var bucket any
		if run := s.Runs[id]; run != nil {
			bucket = object{
				"id": name, "name": name, "displayName": name, "summaryMetrics": run.Lines["wandb-summary.json"][0], "config": run.Config,
				"logLineCount": len(run.Lines["output.log"]), "historyLineCount": len(run.Lines["wandb-history.jsonl"]),
				"eventsLineCount": len(run.Lines["wandb-events.jsonl"]),
				"historyTail":     tail(run.Lines["wandb-history.jsonl"]), "eventsTail": tail(run.Lines["wandb-events.jsonl"]),
				"tags": []any{}, "notes": "", "wandbConfig": `{"t":{}}`,
			}
		}
		return ok(object{"model": object{"id": project, "name": project, "entity": object{"id": entity, "name": entity}, "bucket": bucket}})
	case "UpsertBucket":
		if s.Deleted[name] {
			return refuse(http.StatusConflict, "run "+name+" was previously created and deleted; try a new run name")
		}
		run := s.Runs[id]
		inserted := run == nil
		if inserted {
			run = &Run{Name: name, Lines: map[string]map[int]string{}, Files: map[string][]byte{}}
			s.Runs[id] = run
		}
		run.Upserts = append(run.Upserts, v)
		if c := text(v["config"]); c != "" {
			run.Config = c
		}
		return ok(object{"upsertBucket": object{"inserted": inserted, "bucket": object{
			"id": name, "name": name, "displayName": name, "config": run.Config, "description": "", "sweepName": nil,
			"project":          object{"id": project, "name": project, "entity": object{"id": entity, "name": entity}},
			"historyLineCount": len(run.Lines["wandb-history.jsonl"]),
		}}})
	case "CreateRunFiles":
		files := []any{}
		names, _ := v["files"].([]any)
		for _, f := range names {
			place := s.http.URL + "/storage/run/" + entity + "/" + project + "/" + text(v["run"]) + "/" + text(f)
			files = append(files, object{"name": f, "uploadUrl": place})
		}
		return ok(object{"createRunFiles": object{"runID": text(v["run"]), "uploadHeaders": []any{"X-Storage: yes"}, "files": files}})
	case "NotifyScriptableRunAlert":
		if run := s.Runs[text(v["entityName"])+"/"+text(v["projectName"])+"/"+text(v["runName"])]; run != nil {
			run.Alerts = append(run.Alerts, v)
		}
		return ok(object{"notifyScriptableRunAlert": object{"success": true}})
	case "CreateArtifact":
		in, _ := v["input"].(object)
		state := "PENDING"
		i := slices.IndexFunc(s.Artifacts, func(a *Artifact) bool { return a.ClientID == text(in["clientID"]) })
		if i < 0 {
			i = len(s.Artifacts)
			a := &Artifact{
				ID: strconv.Itoa(i), Run: text(in["runName"]), Type: text(in["artifactTypeName"]), Name: text(in["artifactCollectionName"]),
				Digest: text(in["digest"]), ClientID: text(in["clientID"]), Metadata: text(in["metadata"]), Description: text(in["description"]),
				Files: map[string][]byte{},
			}
			aliases, _ := in["aliases"].([]any)
			for _, alias := range aliases {
				a.Aliases = append(a.Aliases, text(alias.(object)["alias"]))
			}
			s.Artifacts = append(s.Artifacts, a)
		} else if s.Artifacts[i].Committed {
			state = "COMMITTED"
		}
		return ok(object{"createArtifact": object{"artifact": object{"id": strconv.Itoa(i), "state": state, "artifactSequence": object{"latestArtifact": nil}}}})
	case "CreateArtifactManifest":
		file := object{"id": "f"}
		if v["includeUpload"] == true {
			file["uploadUrl"], file["uploadHeaders"] = s.http.URL+"/storage/artifact/"+text(v["artifactID"])+"/wandb_manifest.json", []any{}
		}
		return ok(object{"createArtifactManifest": object{"artifactManifest": object{"id": "m" + text(v["artifactID"]), "file": file}}})
	case "CreateArtifactFiles":
		in, _ := v["input"].(object)
		edges := []any{}
		specs, _ := in["artifactFiles"].([]any)
		for _, f := range specs {
			spec := f.(object)
			edges = append(edges, object{"node": object{
				"storagePath": text(spec["name"]), "uploadUrl": s.http.URL + "/storage/artifact/" + text(spec["artifactID"]) + "/" + text(spec["name"]),
				"uploadHeaders": []any{}, "uploadMultipartUrls": nil, "artifact": object{"id": text(spec["artifactID"])},
			}})
		}
		return ok(object{"createArtifactFiles": object{"files": object{"edges": edges}}})
	case "CommitArtifact":
		if i, err := strconv.Atoi(text(v["artifactID"])); err == nil && i < len(s.Artifacts) {
			s.Artifacts[i].Committed = true
			return ok(object{"commitArtifact": object{"artifact": object{"id": strconv.Itoa(i), "digest": s.Artifacts[i].Digest}}})
		}
	}
	return refuse(http.StatusOK, "no such question: "+operation)
}

// tail is the last line of a file as the API gives it.
func tail(lines map[int]string) string {
	if len(lines) == 0 {
		return "[]"
	}
	last := lines[len(lines)-1]
	reply, _ := json.Marshal([]string{last})
	return string(reply)
}
