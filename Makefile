# make demo: from a fresh machine to a table and figures. make help says more.
#
# C++ flags are in one place, runner/libtorch. Every go command below runs with
# the same tags and the same flags, so that all share one build cache.

.SHELLFLAGS := -euc
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

GO ?= go
# As runner starts the engine: see runner/launch.
export OMP_WAIT_POLICY ?= PASSIVE
# Name look-up and user names in Go: runner and the plug-ins need no C library,
# while the engine, built by the same commands, uses cgo for libtorch.
TAGS := -tags=netgo,osusergo

# Sets CXX and CGO_* for the commands behind it.
ENV := . .build/env.sh;
say = @printf '\033[1m==> %s\033[0m\n' "$(1)"

.PHONY: help build test test-slurm lint race demo benchmark bench bench-variants bench-files clean proto env models python gpu-kit bin/bench-step

help:
	@echo 'make build   build bin/runner, bin/runner-engine and bin/plugins/*'
	@echo 'make demo    build, fetch the backbone, run experiments/ablation_rank.cue'
	@echo 'make test    format, vet, staticcheck, all tests, the race detector'
	@echo 'make test-slurm   what takes minutes on a Slurm of three nodes'
	@echo 'make python  the Python environment of the tests, 1.1 GB in the cache'
	@echo 'make bench   a training step side by side with transformers and PEFT'
	@echo 'make bench-variants   what variants cost beside the same maths by hand'
	@echo 'make bench-files   a data set of 100,000 files, on the first start and the second'
	@echo 'make gpu-kit   bin/gpu-kit.tar.xz: what bench/gpu.sh needs on a machine with a GPU'
	@echo 'make benchmark   variants at their best: two hours, then docs/benchmark.md'
	@echo 'make proto   generate Go code from the .proto files'
	@echo 'make clean   remove what was built here (the cache of downloads stays)'
	@echo
	@echo 'LIBTORCH=DIR     use this libtorch instead of fetching one'
	@echo 'CUDA=1           fetch the libraries for NVIDIA GPUs too'
	@echo 'LORALAB_CXX=CMD  C++ compiler, if not g++ or clang++'

# Finds or fetches libtorch; writes the environment of the go commands.
env:
	@mkdir -p .build
	@$(GO) version >/dev/null 2>&1 || { echo 'make: no go on PATH: install Go 1.26 or newer' >&2; exit 1; }
	@$(GO) run ./cmd/setup env >.build/env.tmp
	@mv .build/env.tmp .build/env.sh

build: env
	$(call say,building bin/runner bin/runner-engine bin/plugins (the first time takes minutes))
	@mkdir -p bin/plugins
	@$(ENV) $(GO) build $(TAGS) -o bin/ ./cmd/runner ./cmd/runner-engine
	@$(ENV) $(GO) build $(TAGS) -o bin/plugins/ \
		$$($(GO) list $(TAGS) -f '{{if eq .Name "main"}}{{.ImportPath}}{{end}}' ./plugins/...)
	@if command -v python3 >/dev/null; then \
		for main in plugins/python/*/main.py; do \
			dir=$${main%/main.py}; python3 -B plugins/python/loralab_plugin/pack.py $$dir bin/plugins/$${dir##*/}; \
		done; \
	else echo 'no python3: the plug-ins in Python are left out'; fi

models: build
	@bin/runner models fetch dinov2-small

demo: build models
	$(call say,runner apply experiments/ablation_rank.cue)
	@bin/runner apply experiments/ablation_rank.cue

lint: build
	$(call say,gofumpt and staticcheck: building them)
	@cd tools && $(GO) build -o ../.build/ mvdan.cc/gofumpt honnef.co/go/tools/cmd/staticcheck
	$(call say,gofumpt)
	@bad=$$(.build/gofumpt -l $$(find . -name '*.go' ! -name '*.pb.go' ! -path './.*')); \
	if [ -n "$$bad" ]; then printf 'not formatted (run: .build/gofumpt -w FILE):\n%s\n' "$$bad" >&2; exit 1; fi
	$(call say,go vet)
	@$(ENV) $(GO) vet $(TAGS) ./...
	$(call say,staticcheck)
	@$(ENV) .build/staticcheck $(TAGS) ./...
	$(call say,words that docs/writing.md avoids)
	@cd tools && $(GO) test ./... && $(GO) run ./words

# A package may take this long, as on a slow or busy machine. Only a hang needs it.
LIMIT := -timeout=60m

# The packages that use goroutines, without C++: the detector does not see what
# libtorch does. Each path once: the end-to-end scripts and pages train with the
# real engine, the shipped plug-ins are tried with it, figures are drawn by one
# goroutine each, and most searches of the tests have one slot, so the tests above
# are enough for these. Left out, too, is what takes long and starts no goroutine of
# its own. -short draws fewer examples in the property tests.
race: env
	$(call say,tests with the race detector)
	@$(ENV) $(GO) test $(TAGS) $(LIMIT) -race -short \
		-skip '^(TestScripts|TestEndToEnd|TestKilled|TestKilledSearch|TestSlurm[A-Za-z]*|TestHostileSearches|TestIdentitiesAreRecorded|TestExperimentsOfTheProject|TestEdits|TestTrialsThatFail|TestABudgetInSteps|TestMisbehaviour|TestHoweverAnExperimentIsMade|TestCellsAreWhatCUESays|TestPlainCUE|TestNumbersAreComputedWithAsWritten|TestWideningKeepsEveryRun|TestIdentityIsWhatIsMeant|TestFiguresOfTheEngine|TestSheetOfFigures|TestResolutionOfFigures|TestPageInABrowser|TestHostileNamesStayTextOnThePage|TestThinnedCurvesKeepTheirEnds|TestJournalsThatAreNotWhole|TestBrokenFiles|TestMutated|Test[A-Z][a-z]*Page|TestShippedPlugins|TestBuildInThePlaceOfAnother|TestBuildWritesTheSameBytesEveryTime|TestPanelsAreFound)$$' \
		$$($(GO) list $(TAGS) -f '{{.ImportPath}} {{join .Deps " "}}' \
			$$(grep -lrE '(^|[^[:alnum:]_])go [[:alnum:]_.]+\(|\.Go\(|"sync' --include='*.go' cmd core plugins runner | xargs -n1 dirname | sort -u | sed 's,^,./,') \
			| grep -v github.com/sugarme/gotch | cut -d' ' -f1)
	@$(ENV) $(GO) test $(TAGS) $(LIMIT) -race -run '^TestScripts$$/^(apply|logs)_' ./cmd/runner

# Transformers and PEFT, which the tests hold our numbers against.
python:
	@internal/python/install.sh >/dev/null
	@internal/browser/axe.sh >/dev/null

test: build models python lint
	$(call say,tests)
	@$(ENV) $(GO) test $(TAGS) $(LIMIT) ./...
	@$(MAKE) race
	$(call say,all passed)

bin/bench-step: env
	@mkdir -p bin
	@$(ENV) $(GO) build $(TAGS) -o $@ ./bench/step

bench: build
	@bench/run.sh

# Linked without symbols, which are half of the size. Instructions of x86 are filtered,
# so that what the programs share is the same bytes in each. The dictionary holds all of
# them.
KIT := .build/gpu-kit/loralab-gpu
gpu-kit: env
	$(call say,bin/gpu-kit.tar.xz)
	@rm -rf .build/gpu-kit
	@mkdir -p $(KIT)/bin/plugins $(KIT)/core/engine/train $(KIT)/core/engine/vit/testdata/vit bin
	@$(ENV) $(GO) build $(TAGS) -ldflags='-s -w' -o $(KIT)/bin/ ./cmd/runner ./cmd/runner-engine
	@$(ENV) $(GO) build $(TAGS) -ldflags='-s -w' -o $(KIT)/bin/bench-step ./bench/step
	@$(ENV) $(GO) test -c $(TAGS) -ldflags='-s -w' -o $(KIT)/bin/train.test ./core/engine/train
	@$(ENV) $(GO) build $(TAGS) -ldflags='-s -w' -o $(KIT)/bin/plugins/ $(addprefix ./plugins/,lora dora vera ia3 oft)
	@cp --parents LICENSE NOTICE cue.mod/module.cue experiments/ablation_rank.cue \
		bench/gpu.sh bench/gpu.py bench/peft_step.py bench/device.cue core/engine/vit/testdata/vit/model.safetensors $(KIT)
	@cp -r --parents data/nuclei $(KIT)
	@tar -C .build/gpu-kit --sort=name --owner=0 --group=0 --numeric-owner -cf - loralab-gpu | \
		xz -T1 --x86 --lzma2=preset=6,dict=256MiB >bin/gpu-kit.tar.xz
	@size=$$(stat -c %s bin/gpu-kit.tar.xz); echo "$$((size / 1000000)) MB"; \
	if [ $$size -ge 60000000 ]; then echo 'gpu-kit: it has to be below 60 MB' >&2; exit 1; fi

bench-variants: build
	@$(ENV) $(GO) build $(TAGS) -o bin/bench-variants ./bench/variants
	@bin/bench-variants -plugins bin/plugins

bench-files: build
	@$(ENV) $(GO) build $(TAGS) -o bin/bench-files ./bench/files
	@bin/bench-files -runner bin/runner

benchmark: build models
	@bin/runner apply experiments/benchmark.cue
	@bin/runner apply experiments/sampler.cue
	@cd tools && $(GO) run ./benchmark

# grpcio-tools is protoc in a Python package; nothing of it is used otherwise.
proto:
	@mkdir -p .build
	@cd tools && $(GO) build -o ../.build/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	@[ -x .build/protoc/bin/python ] || python3 -m venv .build/protoc
	@.build/protoc/bin/python -m pip install -q --disable-pip-version-check grpcio-tools==1.85.1
	@for f in plugins/protocol/variant.proto core/spec/spec.proto; do \
		PATH="$$PWD/.build:$$PATH" .build/protoc/bin/python -m grpc_tools.protoc -Iplugins/protocol -Icore/spec \
			--go_out=. --go_opt=module=github.com/loralab/loralab \
			--go-grpc_out=. --go-grpc_opt=module=github.com/loralab/loralab $$f; \
	done
	@.build/protoc/bin/python -m grpc_tools.protoc -Iplugins/protocol \
		--descriptor_set_out=plugins/python/loralab_plugin/variant.binpb variant.proto

clean:
	rm -rf bin .build

# Slurm with the engine that trains, 30 kills among 60 runs, and what takes minutes: time
# limits, preemption, a lost node, accounting. About ten minutes; Debian has slurmdbd and
# mariadb-server for the last.
test-slurm: build
	$(call say,tests on a real Slurm)
	@$(ENV) LORALAB_SLURM_ALL=1 LORALAB_SLURM_KILLS=30 LORALAB_SLURM_ENGINE=real $(GO) test $(TAGS) $(LIMIT) -v -run '^(TestSlurm|TestCluster|TestAccounting)' ./cmd/runner ./runner/slurm ./internal/slurmtest
