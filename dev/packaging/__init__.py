"""What is deployed: the package, the packages it needs, their licences and known weaknesses.

requirements   requirements.txt (what the app imports) and requirements.lock (exact versions with checksums)
wheels         the wheels of the lock, checked and unpacked for the place where the app is to run
contents       which files are the app, and what must never be among them
build          `make package`: all of it in one zip
lock           `make lock`: the lock and docs/dependencies.md anew
licences, page docs/dependencies.md
imports        what the code imports, and from which package
audit          `make audit`: published weaknesses of the locked versions
tools          the programs that lock and audit use, each in a folder of its own
"""
