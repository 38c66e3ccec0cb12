SCRIPTS = {}


def play_script(script):
    return None
