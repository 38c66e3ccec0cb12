"""x"""


def check(*a):
    pass
