# Every task of a contributor, one target each. `make help` prints them.
# What they build or download goes to .build/ and src/rust/target/, both ignored by git.

SHELL = /bin/sh
LIB = .build/lib
CHECK = .build/check
# The name R CMD build gives the tarball.
TARBALL = .build/dist/dkusecrets_$(shell sed -n 's/^Version: //p' DESCRIPTION).tar.gz
MANUAL = $(shell command -v pdflatex >/dev/null || echo --no-manual)
# The package installed here, never the one in the user's own library.
R = R_LIBS="$(CURDIR)/$(LIB)" Rscript
CARGO = cargo --locked

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

demo: ## install what is missing, build, install, store a secret and read it back in three places
	@sh tools/install-deps.sh demo
	@$(MAKE) --no-print-directory install
	@sh tools/demo.sh

test: ## install what the tests need, then run the Rust, R and Python tests
	@sh tools/install-deps.sh demo test
	@sh tools/test.sh

install-deps: ## install what demo, test and check need from Debian, if it is missing
	@sh tools/install-deps.sh demo test check

install: ## build the package and install it into your R library
	@Rscript tools/user-library.R
	R CMD INSTALL .

document: lib ## write R/extendr-wrappers.R, NAMESPACE and man/ anew
	cd src/rust && UPDATE=1 $(CARGO) test --release --package dkusecrets wrappers
	R CMD INSTALL --library=$(LIB) .
	$(R) -e 'roxygen2::roxygenise(load_code = "installed")'

lint: lib ## check the format, clippy's advice and that generated files are current
	cd src/rust && cargo fmt --check
	cd src/rust && $(CARGO) clippy --release --all-targets -- -D warnings
	cd src/rust && $(CARGO) test --release --package dkusecrets wrappers
	R CMD INSTALL --library=$(LIB) .
	$(R) tools/generated.R
	checkbashisms -f configure cleanup tools/*.sh .ci/run

dist: ## make .build/dist/dkusecrets_<version>.tar.gz, which installs offline
	@sh tools/dist.sh

# R asks a time server whether the clock is right, where there may be no network. The manual as PDF
# is checked where there is LaTeX, which install-deps leaves out for its size, in LaTeX's usual fonts:
# R's other font is in texlive-fonts-extra.
check: dist ## R CMD check --as-cran on that tarball
	rm -rf $(CHECK) && mkdir -p $(CHECK)
	_R_CHECK_SYSTEM_CLOCK_=0 R_RD4PDF=times,hyper R CMD check --as-cran $(MANUAL) --output=$(CHECK) $(TARBALL)

bench: ## measure beside keyring's file backend and beside the limit, as a table
	@sh bench/run.sh

bench-server: ## measure the server beside others, and with many people, as tables
	@sh bench/server/run.sh

clean: ## remove everything that was built
	rm -rf .build src/rust/target src/rust/.cargo src/rust/vendor src/*.o src/*.so src/Makevars src/program

lib:
	@mkdir -p $(LIB)

.PHONY: help demo test install-deps install document lint dist check bench bench-server clean lib
