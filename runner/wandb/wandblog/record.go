package wandblog

import (
	"errors"
	"fmt"
	"reflect"
	"time"
)

// Record is one entry of a log. Exactly one field in addition to Num is set.
//
// The official client ends with a panic at a record whose content it does not know, so
// Marshal refuses a record without content. Of the numbers that the client
// knows, 9 (TensorBoard), 19, 27 and 200 are not here.
type Record struct {
	Num         int64        `pb:"1"` // 1, 2, 3 … in the order of the file
	History     *History     `pb:"2"`
	Summary     *Summary     `pb:"3"`
	Output      *Output      `pb:"4"`
	Config      *Config      `pb:"5"`
	Files       *Files       `pb:"6"`
	Stats       *Stats       `pb:"7"`
	Artifact    *Artifact    `pb:"8"`
	Alert       *Alert       `pb:"10"`
	Telemetry   *Telemetry   `pb:"11"`
	Metric      *Metric      `pb:"12"`
	OutputRaw   *OutputRaw   `pb:"13"`
	Run         *Run         `pb:"17"`
	Exit        *Exit        `pb:"18"`
	Final       *Empty       `pb:"20"`
	Header      *Header      `pb:"21"`
	Footer      *Empty       `pb:"22"`
	Preempting  *Empty       `pb:"23"`
	UseArtifact *Empty       `pb:"25"` // an artifact that the run reads; its fields are not read here
	Environment *Environment `pb:"26"`
}

// Empty is a message without fields that matter here.
type Empty struct{}

// Header starts a log. MinConsumer is the oldest version of the client that reads it.
type Header struct {
	Version *Version `pb:"1"`
}

// Version is that of the program that wrote a log.
type Version struct {
	Producer    string `pb:"1"`
	MinConsumer string `pb:"2"`
}

// Run describes the run. The first one creates it; later ones change names.
type Run struct {
	ID           string     `pb:"1"`
	Entity       string     `pb:"2"` // "" is the one that the key belongs to
	Project      string     `pb:"3"`
	Config       *Config    `pb:"4"`
	Summary      *Summary   `pb:"5"`
	Group        string     `pb:"6"`
	JobType      string     `pb:"7"`
	DisplayName  string     `pb:"8"`
	Notes        string     `pb:"9"`
	Tags         []string   `pb:"10"`
	SweepID      string     `pb:"12"`
	Host         string     `pb:"13"`
	StartingStep int64      `pb:"14"`
	StorageID    string     `pb:"16"`
	StartTime    *Timestamp `pb:"17"`
	Resumed      bool       `pb:"18"`
	Telemetry    *Telemetry `pb:"19"`
	Runtime      int32      `pb:"20"` // seconds before this log
	Git          *Git       `pb:"21"`
	Resume       bool       `pb:"24"` // an earlier log may have begun the run
}

// Git is the commit that a run was started from.
type Git struct {
	Remote string `pb:"1"`
	Commit string `pb:"2"`
}

// Timestamp is a time since 1970.
type Timestamp struct {
	Seconds int64 `pb:"1"`
	Nanos   int32 `pb:"2"`
}

// At is a time as a message.
func At(t time.Time) *Timestamp {
	return &Timestamp{Seconds: t.Unix(), Nanos: int32(t.Nanosecond())}
}

// Time is the time of a message; zero without one.
func (t *Timestamp) Time() time.Time {
	if t == nil {
		return time.Time{}
	}
	return time.Unix(t.Seconds, int64(t.Nanos))
}

// Item is a value with its name: a key, or the path of keys to a place in nested
// objects. The value is JSON, in which NaN, Infinity and -Infinity may occur bare.
type Item struct {
	Key       string   `pb:"1"`
	NestedKey []string `pb:"2"`
	ValueJSON string   `pb:"16"`
}

// Path is the way to the value, from outside to inside.
func (i *Item) Path() []string {
	if len(i.NestedKey) > 0 {
		return i.NestedKey
	}
	return []string{i.Key}
}

// Config changes the configuration.
type Config struct {
	Update []*Item `pb:"1"`
	Remove []*Item `pb:"2"`
}

// Summary changes the summary.
type Summary struct {
	Update []*Item `pb:"1"`
	Remove []*Item `pb:"2"`
}

// HistoryItem is a value of a row. Its numbers are those of another message than
// Item's, where 3 to 8 are typed forms, which no client writes.
type HistoryItem = Item

// History is one row. Its items hold _step, _runtime and _timestamp as well.
type History struct {
	Item []*HistoryItem `pb:"1"`
	Step *Step          `pb:"2"`
}

// Step is the step of a row.
type Step struct {
	Num int64 `pb:"1"`
}

// Metric says how a metric is drawn and summarized.
type Metric struct {
	Name       string         `pb:"1"`
	Glob       string         `pb:"2"`
	StepMetric string         `pb:"4"`
	Options    *MetricOptions `pb:"6"`
	Summary    *MetricSummary `pb:"7"`
	Goal       int32          `pb:"8"` // 1: minimize, 2: maximize
}

// MetricOptions of a metric.
type MetricOptions struct {
	StepSync bool `pb:"1"` // rows without the step metric get its last value
	Hidden   bool `pb:"2"`
	Defined  bool `pb:"3"` // by name, not by a pattern
}

// MetricSummary names the values of a metric that the summary has.
type MetricSummary struct {
	Min   bool `pb:"1"`
	Max   bool `pb:"2"`
	Mean  bool `pb:"3"`
	Best  bool `pb:"4"`
	Last  bool `pb:"5"`
	None  bool `pb:"6"`
	First bool `pb:"8"`
}

// Files names files of the directory files/ that belong to the run.
type Files struct {
	Files []*File `pb:"1"`
}

// File is a file of the run. Policy is when it is sent: 0 now, 1 at the end, 2
// whenever it changes. Type is 0 other, 1 of the client, 2 media, 3 of an artifact.
type File struct {
	Path   string `pb:"1"`
	Policy int32  `pb:"2"`
	Type   int32  `pb:"3"`
}

// Values of File.
const (
	PolicyNow  = 0
	PolicyEnd  = 1
	PolicyLive = 2

	TypeOther  = 0
	TypeClient = 1
	TypeMedia  = 2
)

// Stats are system metrics at a time, by names without the prefix "system.".
type Stats struct {
	Type      int32        `pb:"1"`
	Timestamp *Timestamp   `pb:"2"`
	Item      []*StatsItem `pb:"3"`
}

// StatsItem is one system metric. Unlike in Item, the value has number 16 and there is
// no path.
type StatsItem struct {
	Key       string `pb:"1"`
	ValueJSON string `pb:"16"`
}

// OutputRaw is text that the process wrote. Type is 0 for standard error, 1 for
// standard output. The line ends with "\n".
type OutputRaw struct {
	Type      int32      `pb:"1"`
	Timestamp *Timestamp `pb:"2"`
	Line      string     `pb:"3"`
}

// Output is the older form of OutputRaw; nothing sends it.
type Output struct {
	Type      int32      `pb:"1"`
	Timestamp *Timestamp `pb:"2"`
	Line      string     `pb:"3"`
}

// Alert is a message to the people who follow the run.
type Alert struct {
	Title string `pb:"1"`
	Text  string `pb:"2"`
	Level string `pb:"3"` // INFO, WARN or ERROR
	Wait  int64  `pb:"4"` // nanoseconds in which a second one of the same title is not sent
}

// Telemetry says which client made the run.
type Telemetry struct {
	Feature       *Feature `pb:"3"`
	PythonVersion string   `pb:"4"`
	CLIVersion    string   `pb:"5"`
	CoreVersion   string   `pb:"12"`
	Platform      string   `pb:"13"`
}

// Feature says what a run uses.
type Feature struct {
	Offline bool `pb:"4"`
}

// Environment is what the run was started with and on.
type Environment struct {
	OS              string            `pb:"1"`
	Python          string            `pb:"2"`
	StartedAt       *Timestamp        `pb:"3"`
	Docker          string            `pb:"4"`
	Args            []string          `pb:"5"`
	Program         string            `pb:"6"`
	CodePath        string            `pb:"7"`
	Git             *Git              `pb:"9"`
	Email           string            `pb:"10"`
	Root            string            `pb:"11"`
	Host            string            `pb:"12"`
	Username        string            `pb:"13"`
	Executable      string            `pb:"14"`
	CPUCount        int64             `pb:"16"`
	CPUCountLogical int64             `pb:"17"`
	GPUType         string            `pb:"18"`
	GPUCount        int64             `pb:"19"`
	Memory          *Memory           `pb:"21"`
	GPUs            []*GPU            `pb:"24"`
	CUDAVersion     string            `pb:"25"`
	Slurm           map[string]string `pb:"27"`
	WriterID        string            `pb:"199"`
}

// Memory of a machine, in bytes.
type Memory struct {
	Total uint64 `pb:"1"`
}

// GPU is one of NVIDIA's.
type GPU struct {
	Name         string `pb:"1"`
	MemoryTotal  uint64 `pb:"2"` // bytes
	CUDACores    int64  `pb:"3"`
	Architecture string `pb:"4"`
	UUID         string `pb:"5"`
}

// Exit is how the process ended. A log without it is that of a process that was killed.
type Exit struct {
	Code        int32 `pb:"1"`
	Runtime     int32 `pb:"2"` // seconds
	NotComplete bool  `pb:"3"`
}

// Artifact is a versioned set of files that the run made.
type Artifact struct {
	RunID            string    `pb:"1"`
	Project          string    `pb:"2"`
	Entity           string    `pb:"3"`
	Type             string    `pb:"4"`
	Name             string    `pb:"5"`
	Digest           string    `pb:"6"`
	Description      string    `pb:"7"`
	Metadata         string    `pb:"8"` // JSON
	UserCreated      bool      `pb:"9"`
	UseAfterCommit   bool      `pb:"10"`
	Aliases          []string  `pb:"11"`
	Manifest         *Manifest `pb:"12"`
	Finalize         bool      `pb:"14"`
	ClientID         string    `pb:"15"`
	SequenceClientID string    `pb:"16"`
	Tags             []string  `pb:"19"`
}

// Manifest lists the files of an artifact.
type Manifest struct {
	Version             int32           `pb:"1"`
	StoragePolicy       string          `pb:"2"`
	StoragePolicyConfig []*PolicyConfig `pb:"3"`
	Contents            []*Content      `pb:"4"`
}

// PolicyConfig is a setting of the storage.
type PolicyConfig struct {
	Key       string `pb:"1"`
	ValueJSON string `pb:"2"`
}

// Content is a file of an artifact. The digest is the MD5 in base64.
type Content struct {
	Path      string `pb:"1"`
	Digest    string `pb:"2"`
	Ref       string `pb:"3"`
	Size      int64  `pb:"4"`
	MIMEType  string `pb:"5"`
	LocalPath string `pb:"6"`
}

// Marshal is a record as protobuf. Exactly one content has to be set.
func (r *Record) Marshal() ([]byte, error) {
	v := reflect.ValueOf(r).Elem()
	contents := 0
	for i := 1; i < v.NumField(); i++ {
		if !v.Field(i).IsNil() {
			contents++
		}
	}
	if contents != 1 {
		return nil, fmt.Errorf("a record has %d contents, not one", contents)
	}
	return marshal(nil, reflect.ValueOf(r)), nil
}

// Unmarshal reads a record from protobuf. A record of a kind that is not among the
// fields is an error.
func (r *Record) Unmarshal(message []byte) error {
	*r = Record{}
	unknown, err := unmarshal(message, reflect.ValueOf(r))
	if err != nil {
		return err
	}
	if r.Kind() == "" {
		if len(unknown) > 0 {
			return fmt.Errorf("a record of unknown kind %v", unknown)
		}
		return errors.New("a record without content")
	}
	return nil
}

// Kind is the name of the field that is set, and "" without one.
func (r *Record) Kind() string {
	v := reflect.ValueOf(r).Elem()
	for i := 1; i < v.NumField(); i++ {
		if !v.Field(i).IsNil() {
			return v.Type().Field(i).Name
		}
	}
	return ""
}
