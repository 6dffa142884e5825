package wandb

// The questions to the API. Their names, fields and variables are those of the server.

// called is what people read of a question that is refused.
var called = map[string]string{
	"Viewer":                   "to name the user of the key",
	"ServerFeaturesQuery":      "to list its features",
	"RunResumeStatus":          "to show the state of the run",
	"UpsertBucket":             "the run",
	"CreateRunFiles":           "files of the run",
	"NotifyScriptableRunAlert": "the alert",
	"CreateArtifact":           "the artifact",
	"CreateArtifactManifest":   "the list of files of the artifact",
	"CreateArtifactFiles":      "the files of the artifact",
	"CommitArtifact":           "to complete the artifact",
}

const queryViewer = `query Viewer { viewer { entity username } }`

type viewerAnswer struct {
	Viewer *struct{ Entity, Username string }
}

const queryFeatures = `query ServerFeaturesQuery { serverInfo { features { name isEnabled } } }`

type featuresAnswer struct {
	ServerInfo struct {
		Features []struct {
			Name      string
			IsEnabled bool
		}
	}
}

const queryResume = `query RunResumeStatus($project: String, $entity: String, $name: String!) {
	model(name: $project, entityName: $entity) {
		name
		entity { name }
		bucket(name: $name, missingOk: true) {
			name
			summaryMetrics
			logLineCount
			historyLineCount
			eventsLineCount
			historyTail
			eventsTail
			config
		}
	}
}`

type resumeAnswer struct {
	Model *struct {
		Name   string
		Entity struct{ Name string }
		Bucket *bucket
	}
}

// bucket is a run on the server. A tail is a JSON list of texts, which are JSON objects.
type bucket struct {
	Name             string
	SummaryMetrics   string
	Config           string
	LogLineCount     int
	HistoryLineCount int
	EventsLineCount  int
	HistoryTail      string
	EventsTail       string
}

const mutationUpsert = `mutation UpsertBucket($name: String, $project: String, $entity: String, $groupName: String,
	$displayName: String, $notes: String, $commit: String, $config: JSONString, $host: String, $program: String,
	$repo: String, $jobType: String, $sweep: String, $tags: [String!]) {
	upsertBucket(input: {name: $name, modelName: $project, entityName: $entity, groupName: $groupName,
		displayName: $displayName, notes: $notes, commit: $commit, config: $config, host: $host, jobProgram: $program,
		jobRepo: $repo, jobType: $jobType, sweep: $sweep, tags: $tags}) {
		bucket { name displayName project { name entity { name } } historyLineCount }
		inserted
	}
}`

type upsertAnswer struct {
	UpsertBucket struct {
		Bucket struct {
			Name    string
			Project struct {
				Name   string
				Entity struct{ Name string }
			}
			HistoryLineCount int
		}
	}
}

const mutationFiles = `mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, $files: [String!]!) {
	createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, files: $files}) {
		runID
		uploadHeaders
		files { name uploadUrl }
	}
}`

type filesAnswer struct {
	CreateRunFiles struct {
		UploadHeaders []string
		Files         []struct{ Name, UploadURL string }
	}
}

const mutationAlert = `mutation NotifyScriptableRunAlert($entityName: String!, $projectName: String!, $runName: String!,
	$title: String!, $text: String!, $severity: AlertSeverity = INFO, $waitDuration: Duration) {
	notifyScriptableRunAlert(input: {entityName: $entityName, projectName: $projectName, runName: $runName,
		title: $title, text: $text, severity: $severity, waitDuration: $waitDuration}) { success }
}`

const mutationArtifact = `mutation CreateArtifact($input: CreateArtifactInput!) {
	createArtifact(input: $input) { artifact { id state artifactSequence { latestArtifact { id } } } }
}`

type artifactAnswer struct {
	CreateArtifact struct {
		Artifact struct{ ID, State string }
	}
}

const mutationManifest = `mutation CreateArtifactManifest($artifactID: ID!, $baseArtifactID: ID, $name: String!, $digest: String!,
	$entityName: String!, $projectName: String!, $runName: String!, $manifestType: ArtifactManifestType!, $includeUpload: Boolean!) {
	createArtifactManifest(input: {artifactID: $artifactID, baseArtifactID: $baseArtifactID, name: $name, digest: $digest,
		entityName: $entityName, projectName: $projectName, runName: $runName, type: $manifestType}) {
		artifactManifest { id file { id uploadUrl @include(if: $includeUpload) uploadHeaders @include(if: $includeUpload) } }
	}
}`

type manifestAnswer struct {
	CreateArtifactManifest struct {
		ArtifactManifest struct {
			ID   string
			File struct {
				UploadURL     string
				UploadHeaders []string
			}
		}
	}
}

const mutationArtifactFiles = `mutation CreateArtifactFiles($input: CreateArtifactFilesInput!) {
	createArtifactFiles(input: $input) { files { edges { node { storagePath uploadUrl uploadHeaders } } } }
}`

type artifactFilesAnswer struct {
	CreateArtifactFiles struct {
		Files struct {
			Edges []struct {
				Node struct {
					UploadURL     *string
					UploadHeaders []string
				}
			}
		}
	}
}

const mutationCommit = `mutation CommitArtifact($artifactID: ID!) {
	commitArtifact(input: {artifactID: $artifactID}) { artifact { id digest } }
}`
